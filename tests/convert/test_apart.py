"""Calls in a process of their own end there, whatever a library does in it."""

import os

import pytest

from resnet_rs.convert import apart
from resnet_rs.convert.apart import BrokenDown, call_apart
from resnet_rs.utils.errors import UserError


def add(first, second):
    return first + second


def refuse():
    raise UserError('no weights')


def end_the_process():
    os._exit(3)


def never_return():
    while True:
        pass


def take_memory(size):
    return len(bytearray(size))


def test_results_and_mistakes_come_back():
    assert call_apart(add, 1, 2, size=0, library='json') == 3
    with pytest.raises(UserError, match='no weights'):
        call_apart(refuse, size=0, library='json')


def test_the_end_of_the_process_is_told():
    with pytest.raises(BrokenDown, match='json broke down'):
        call_apart(end_the_process, size=0, library='json')


def test_a_hang_ends(monkeypatch):
    monkeypatch.setattr(apart, 'SECONDS', 1)
    with pytest.raises(BrokenDown):
        call_apart(never_return, size=0, library='json')


def test_memory_is_bounded_by_the_size_of_the_file():
    assert call_apart(take_memory, 2**29, size=0, library='json') == 2**29
    with pytest.raises(MemoryError):
        call_apart(take_memory, 2**31, size=0, library='json')
    assert call_apart(take_memory, 2**31, size=2**30, library='json') == 2**31
