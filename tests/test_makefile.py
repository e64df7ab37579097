"""The commands of the Makefile, with a stand-in Python that names what it is asked to do."""

import pathlib
import shutil
import subprocess

import conftest
import pytest

ROOT = pathlib.Path(__file__).parent.parent
# `-m venv DIR` puts the same stand-in into DIR; everything else only prints its arguments.
PYTHON = """#!/bin/bash
echo "python $*"
if [ "$2" = venv ]; then
  mkdir -p "$3/bin"
  cp "$0" "$3/bin/python"
  touch "$3/bin/ruff"
  chmod +x "$3/bin/ruff"
fi
"""


@pytest.fixture
def make(tmp_path):
    """Runs `make TARGET` with an environment of its own; returns the lines it prints."""
    python = tmp_path / 'python3.11'
    python.write_text(PYTHON)
    python.chmod(0o755)

    def make(target):
        result = subprocess.run(
            [
                shutil.which('make'),
                target,
                f'PYTHON={python}',
                f'VENV={tmp_path}/venv',
                f'DEMO={tmp_path}/demo',
                f'DATA={tmp_path}/data',
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.splitlines()

    return make


def positions(lines, *fragments):
    """The number of the first line with each fragment."""
    return [
        next(number for number, line in enumerate(lines) if fragment in line)
        for fragment in fragments
    ]


def test_demo_says_what_it_installs_before_it_does(make, tmp_path):
    lines = make('demo')
    announced, *done = positions(
        lines,
        f'Installing requirements.txt into {tmp_path}/venv',
        'python -m venv',
        'python -m pip install',
        'python -m resnet_rs.datasets.prepare digits',
        'python main.py --config=configs/digits.py',
        'python -m resnet_rs.demo',
    )
    assert 'GB' in lines[announced] and 'minute' in lines[announced]
    assert [announced, *done] == sorted([announced, *done])

    again = make('demo')  # nothing is left to install
    assert not any('Installing' in line or 'pip install' in line for line in again)
    assert positions(again, 'python main.py --config=configs/digits.py')


def test_test_says_what_it_installs_beside(make):
    lines = make('test')
    first, first_done, second, second_done, tested = positions(
        lines,
        'Installing requirements.txt into',
        '-r requirements.txt',
        'Installing requirements-dev.txt into',
        '-r requirements-dev.txt',
        'python -m pytest',
    )
    assert first < first_done < second < second_done < tested
    assert 'GB' in lines[second] and 'minute' in lines[second]


def test_test_runs_everything_and_test_fast_leaves_out_what_is_slow(make):
    *_, everything = [line for line in make('test') if 'python -m pytest' in line]
    assert ' -m ' not in everything.partition('pytest')[2] and '--durations=10' in everything
    *_, fast = [line for line in make('test-fast') if 'python -m pytest' in line]
    assert fast == f'{everything} -m not slow'
    assert 'make test\n' in (ROOT / '.ci' / 'run').read_text()


def test_slow_files_exist():
    """A file that was renamed would be run by make test-fast."""
    assert not [name for name in conftest.SLOW if not (ROOT / 'tests' / name).is_file()]


def test_ci_runs_tests_that_exist():
    """pytest -n ends with "no tests ran" where a path is missing, after all others passed."""
    words = (ROOT / '.ci' / 'run').read_text().split()
    paths = [word for word in words if word.startswith('tests/')]
    assert paths and all((ROOT / path).exists() for path in paths), paths
