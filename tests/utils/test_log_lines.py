"""Lines of the log are short, and libraries add only warnings."""

import logging
import os
import pathlib
import re
import subprocess
import sys

import pytest

from resnet_rs.utils.log_lines import ShortLines, is_for_people

ROOT = pathlib.Path(__file__).parents[2]


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
