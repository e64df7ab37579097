"""Tests of how messages count things, and of how commands read their arguments and end."""

import subprocess
import sys

import pytest
from helpers.processes import ROOT, environment

from resnet_rs.utils.errors import CommandParser, count_of, with_home


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


def test_a_path_in_the_home_directory(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    arguments = ['main.py', '--workdir=~/run', '--config.data.data_dir', '~/data', '--label=a~/b']
    expected = ['main.py', '--workdir=/home/me/run', '--config.data.data_dir', '/home/me/data']
    assert with_home(arguments) == [*expected, '--label=a~/b']
    parser = CommandParser(prog='command')
    parser.add_argument('--output')
    assert parser.parse_args(['--output=~/x']).output == '/home/me/x'


def test_a_reader_that_has_read_enough_ends_the_command():
    """It is head in `settings | head`; python itself would print a traceback."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'resnet_rs.settings'],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b''
    assert process.wait() == 1
