"""How messages name settings and count things."""

import ast
import logging
import os
import pathlib
import re
import subprocess
import sys

import pytest

from resnet_rs.config import SETTINGS
from resnet_rs.utils.errors import count_of
from resnet_rs.utils.log_lines import ShortLines, is_for_people

ROOT = pathlib.Path(__file__).parent.parent
FILES = [*ROOT.glob('*.py'), *ROOT.glob('configs/**/*.py'), *ROOT.glob('resnet_rs/**/*.py')]
NAMES = '|'.join(sorted(map(re.escape, SETTINGS), key=len, reverse=True))
# What a person is told to change is a flag to type, --config.NAME, and never a bare NAME.
ADVICE = re.compile(
    rf'\b(use|set|lower|raise|lengthen|shorten|smaller|larger|longer|more|with) ({NAMES})\b(?! is)'
    rf"|(?<!--config\.)\b({NAMES})='"
)


@pytest.mark.parametrize(
    ('number', 'noun', 'text'),
    [
        (0, 'image', '0 images'),
        (1, 'image', '1 image'),
        (2048, 'image', '2,048 images'),
        (1, 'class', '1 class'),
        (3, 'class', '3 classes'),
        (4, 'more process', '4 more processes'),
        (2, 'batch', '2 batches'),
        (1.0, 'epoch', '1 epoch'),
        (59.994, 'epoch', '59.99 epochs'),
    ],
)
def test_count_of(number, noun, text):
    assert count_of(number, noun) == text


@pytest.mark.parametrize(
    'level, in_terminal, text',
    [
        (logging.INFO, True, '\r\x1b\\[K' r'\d\d:\d\d:\d\d 3 images'),
        (logging.WARNING, False, r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING: 3 images'),
    ],
)
def test_lines_of_the_log_are_short(level, in_terminal, text):
    record = logging.LogRecord('absl', level, __file__, 1, '%d images', (3,), None)
    assert re.fullmatch(text, ShortLines(in_terminal).format(record))


@pytest.mark.parametrize(
    'level, path, shown',
    [
        (logging.INFO, '/v/lib/python3.11/site-packages/matplotlib/font_manager.py', False),
        (logging.WARNING, '/v/lib/python3.11/site-packages/matplotlib/font_manager.py', True),
        (logging.INFO, '/v/lib/python3.11/site-packages/resnet_rs/run/progress.py', True),
        (logging.INFO, '/home/me/checkout/train_lib.py', True),
    ],
)
def test_libraries_show_warnings_alone(level, path, shown):
    record = logging.LogRecord('any', level, path, 1, 'text', (), None)
    assert is_for_people(record) == shown


def test_a_command_shows_its_log_as_short_lines(tmp_path):
    """absl's own form is 'WARNING:absl:...', after a line about flags that are not parsed."""
    for number in range(3):
        (tmp_path / 'photos' / 'cat').mkdir(parents=True, exist_ok=True)
        (tmp_path / 'photos' / 'cat' / f'{number}.jpg').write_bytes(b'')
    (tmp_path / 'photos' / 'cat' / 'notes.txt').write_text('')
    command = [sys.executable, '-m', 'resnet_rs.datasets.split_folder', 'photos', '--output=split']
    result = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
    )
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING: photos: ignored 1 file: .*\n', result.stderr
    )


def texts_of(path):
    """The texts of a module in which values are left out, without its docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(
                part.value if isinstance(part, ast.Constant) else '{}' for part in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings | inner
        ):
            yield node.value


def test_advice_names_the_flag_to_type():
    found = [(path.name, text) for path in FILES for text in texts_of(path) if ADVICE.search(text)]
    assert not found
