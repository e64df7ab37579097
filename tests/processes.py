"""Starts real processes that are the hosts of one run, on virtual CPU devices, over gloo."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def xla_flags(devices: int) -> str:
    """Returns XLA_FLAGS for virtual CPU devices.

    The newer code generator for fused loops is off: it takes twice as long to compile a step.
    """
    return f'--xla_force_host_platform_device_count={devices} --xla_cpu_use_fusion_emitters=false'


def environment(**changes: str) -> dict[str, str]:
    """Returns the environment of a person who asks for oneDNN, with `changes`.

    This process's own environment was prepared for TensorFlow when the package was imported; a
    process that is started with this one has to prepare its own.
    """
    kept = {name: text for name, text in os.environ.items() if name != 'TF_CPP_MIN_LOG_LEVEL'}
    return kept | {'TF_ENABLE_ONEDNN_OPTS': '1'} | changes


def start(count: int, *command, devices: int = 1, **settings) -> list[subprocess.Popen]:
    """`count` processes of `python COMMAND`, each with `devices`, connected if more than one."""
    settings |= {'XLA_FLAGS': xla_flags(devices)}
    if count > 1:
        with socket.socket() as free:
            free.bind(('localhost', 0))
            settings['JAX_COORDINATOR_ADDRESS'] = f'localhost:{free.getsockname()[1]}'
        settings['JAX_NUM_PROCESSES'] = str(count)
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            text=True,
            env=environment(PYTHONPATH=str(ROOT), **settings)
            | ({'JAX_PROCESS_ID': str(index)} if count > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for index in range(count)
    ]


def finish(processes: list[subprocess.Popen], timeout: float = 600) -> list[tuple[int, str, str]]:
    """(status, stdout, stderr) of each when all have ended."""
    ended = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=timeout)
            ended.append((process.returncode, output, errors))
    finally:
        for process in processes:
            process.kill()
    return ended
