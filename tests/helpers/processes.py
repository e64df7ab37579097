"""Starts real processes that are the hosts of one run, on virtual CPU devices, over gloo."""

import os
import pathlib
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]


def xla_flags(devices: int) -> str:
    """Returns XLA_FLAGS for virtual CPU devices.

    The newer code generator for fused loops is off, because it doubles the time to compile a step.
    A program is compiled in one part, because LLVM takes a fifth longer for several.
    """
    return (
        f'--xla_force_host_platform_device_count={devices} '
        '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
    )


def environment(**changes: str) -> dict[str, str]:
    """Returns the environment of a person who asks for oneDNN, with `changes`.

    This process's own environment was prepared for TensorFlow when the package was imported; a
    process that is started with this one has to prepare its own. libtpu leaves variables of a host
    with TPUs, once it has compiled for one.
    """
    kept = {
        name: text
        for name, text in os.environ.items()
        if name != 'TF_CPP_MIN_LOG_LEVEL' and not name.startswith('TPU_')
    }
    return kept | {'TF_ENABLE_ONEDNN_OPTS': '1'} | changes


def start(count: int, *command, devices: int = 1) -> list[subprocess.Popen]:
    """Starts `count` processes of `python COMMAND`, each with `devices`, as the hosts of a run."""
    settings = {'XLA_FLAGS': xla_flags(devices)}
    if count > 1:
        with socket.socket() as free:
            free.bind(('localhost', 0))
            settings['JAX_COORDINATOR_ADDRESS'] = f'localhost:{free.getsockname()[1]}'
        settings['JAX_NUM_PROCESSES'] = str(count)
    return [
        start_alone(*command, **settings, **({'JAX_PROCESS_ID': str(index)} if count > 1 else {}))
        for index in range(count)
    ]


def start_alone(*command, without: tuple[str, ...] = (), **settings: str) -> subprocess.Popen:
    """Starts `python COMMAND` with `environment(**settings)`, less the variables `without`."""
    variables = environment(PYTHONPATH=f'{ROOT}:{ROOT / "tests"}', **settings)
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        text=True,
        env={name: value for name, value in variables.items() if name not in without},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


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


def wait_for(path: pathlib.Path, process: subprocess.Popen, timeout: float = 600) -> None:
    """Waits until `path` exists; fails when `process` ends before."""
    deadline = time.monotonic() + timeout
    while not path.exists():
        if process.poll() is not None:
            raise AssertionError(f'{path} did not appear: {process.communicate()}')
        assert time.monotonic() < deadline, f'{path} did not appear'
        time.sleep(0.05)


def run_scenario(count: int, *arguments) -> list[tuple[int, str, str]]:
    """Returns what `finish` does of `count` processes of host_scenarios.py."""
    return finish(start(count, 'tests/helpers/host_scenarios.py', *arguments))


def error_lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith('error:')]
