"""The code, packages and devices that a process runs with."""

import importlib.metadata
import pathlib
import subprocess
import sys

PACKAGES = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'tensorflow-cpu',
    'tensorflow-datasets',
    'clu',
    'ml_collections',
    'numpy',
)


def describe_environment() -> dict:
    """Returns command line, git commit, versions, devices and process count of this process."""
    import jax

    return {
        'command': sys.argv,
        'commit': git_commit(),
        'python': sys.version.split()[0],
        'packages': {name: importlib.metadata.version(name) for name in PACKAGES},
        'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
        'processes': jax.process_count(),
    }


def git_commit() -> str | None:
    """Returns the commit, with '+changes' where the tree is not clean; None outside a checkout."""
    file = pathlib.Path(__file__)

    def git(*arguments):
        return subprocess.run(
            ['git', '-C', file.parent, *arguments], capture_output=True, text=True, check=False
        )

    try:
        # An installed package may lie inside another project's checkout.
        is_ours = git('ls-files', '--error-unmatch', file.name).returncode == 0
        head = git('rev-parse', 'HEAD')
    except FileNotFoundError:  # git is not installed
        return None
    if head.returncode or not is_ours:
        return None
    return head.stdout.strip() + ('+changes' if git('status', '--porcelain').stdout else '')
