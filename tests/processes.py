"""Starts real processes that are the hosts of one run, on virtual CPU devices, over gloo."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def start(count: int, *command, devices: int = 1, **environment) -> list[subprocess.Popen]:
    """`count` processes of `python COMMAND`, each with `devices`, connected if more than one."""
    environment |= {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    if count > 1:
        with socket.socket() as free:
            free.bind(('localhost', 0))
            environment['JAX_COORDINATOR_ADDRESS'] = f'localhost:{free.getsockname()[1]}'
        environment['JAX_NUM_PROCESSES'] = str(count)
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, text=True,
            env={**os.environ, 'PYTHONPATH': str(ROOT), **environment}
            | ({'JAX_PROCESS_ID': str(index)} if count > 1 else {}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) for index in range(count)
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
