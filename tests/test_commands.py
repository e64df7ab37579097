"""Every command: a mistake in its usage is one line, reported before anything slow is imported."""

import os
import pathlib
import subprocess
import sys

import pytest

from resnet_rs import predict
from resnet_rs.convert import __main__ as convert
from resnet_rs.utils.errors import CommandParser, positive_integer

ROOT = pathlib.Path(__file__).parent.parent
PROGRAMS = ('reader.py',)  # started by a command, not by a person
COMMANDS = [
    ['-m', '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__main__')]
    for path in sorted(ROOT.glob('resnet_rs/**/*.py'))
    if "if __name__ == '__main__'" in path.read_text() and path.name not in PROGRAMS
] + [['main.py']]
# Each takes about a second to import, or prints on some machines.
SLOW = (
    'clu',
    'flax',
    'jax',
    'matplotlib',
    'optax',
    'orbax',
    'scipy',
    'sklearn',
    'tensorflow',
    'tensorflow_datasets',
)


@pytest.fixture(scope='module')
def barrier(tmp_path_factory):
    """A directory of modules that fail when they are imported instead of the slow ones."""
    directory = tmp_path_factory.mktemp('slow')
    for name in SLOW:
        (directory / f'{name}.py').write_text('raise AssertionError(__name__)\n')
    return directory


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_wrong_usage_is_one_line(command, barrier):
    result = subprocess.run(
        [sys.executable, *command, '--nonsense'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={'HOME': os.environ['HOME'], 'PATH': os.environ['PATH'], 'PYTHONPATH': str(barrier)},
        timeout=120,
        check=False,
    )
    assert result.stderr.startswith('error: ') and result.stderr.count('\n') == 1, result.stderr
    assert result.returncode == 2 and not result.stdout


def test_all_commands_are_found():
    names = {command[-1].removeprefix('resnet_rs.') for command in COMMANDS}
    assert names >= {
        'main.py',
        'predict',
        'probe',
        'pseudo_label',
        'plan',
        'sweep',
        'datasets.prepare',
        'datasets.split_folder',
    }


@pytest.mark.parametrize(
    'arguments, problem',
    (
        ([], 'the following arguments are required: --kind'),
        (['--kind=c'], "argument --kind: invalid choice: 'c'"),
        (['--kind=a', '--count=0'], "argument --count: '0' is not a positive whole number"),
        (['--kind=a', '--cuont=1'], 'unrecognized arguments: --cuont=1'),
    ),
)
def test_a_parser_names_the_mistake_and_the_help(arguments, problem, capsys):
    parser = CommandParser(prog='python -m resnet_rs.something', description='A title.\n\n  x')
    parser.add_argument('--kind', choices=['a', 'b'], required=True)
    parser.add_argument('--count', type=positive_integer)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    output, errors = capsys.readouterr()
    assert end.value.code == 2 and not output
    assert errors.startswith(f'error: {problem}') and errors.count('\n') == 1
    assert errors.endswith('; see python -m resnet_rs.something --help\n')
    assert 'A title.\n\n  x' in parser.format_help()


@pytest.mark.parametrize(
    'command, arguments, message',
    (
        (
            predict,
            ['--checkpoint=DIR', 'photo.jpg'],
            "'DIR' is neither 'last' nor 'best' nor a step; the directory is --workdir=DIR",
        ),
        (predict, ['--workdir=DIR', '--step=best', 'photo.jpg'], '--step is now --checkpoint'),
        (predict, ['photo.jpg'], 'the following arguments are required: --workdir'),
        (convert, ['--to=timm', 'DIR', '--output=x.safetensors'], 'which one is --workdir=DIR'),
        (convert, ['--to=timm', '--output=x.safetensors'], 'which one is --workdir=DIR'),
        (convert, ['--source=timm', '--workdir=DIR', '--output=x'], 'name it as PATH'),
        (
            convert,
            ['--to=timm', '--workdir=DIR', '--checkpoint=first', '--output=x.safetensors'],
            "'first' is neither 'last' nor 'best' nor a step",
        ),
    ),
)
def test_one_word_for_run_and_checkpoint(command, arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    output, errors = capsys.readouterr()
    assert end.value.code == 2 and not output
    assert errors.startswith('error: ') and errors.count('\n') == 1 and message in errors
