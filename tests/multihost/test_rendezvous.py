"""Waiting for every process, over real sockets; a thread stands for a process."""

import concurrent.futures
import errno
import socket
import time

import pytest

from resnet_rs.multihost.rendezvous import wait_for_all
from resnet_rs.utils.errors import UserError


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(('localhost', 0))
        return f'localhost:{free.getsockname()[1]}'


def arrive(address, *processes, timeout=30.0):
    """The result of each (count, index): None or the text of its UserError."""

    def one(process):
        try:
            return wait_for_all(address, *process, timeout)
        except UserError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(processes)) as threads:
        return list(threads.map(one, processes))


def test_all_go_on_when_all_are_there(address):
    assert arrive(address, (3, 2), (3, 0), (3, 1)) == [None] * 3


def test_the_missing_are_named_on_all_that_came(address):
    told = arrive(address, (5, 0), (5, 1), (5, 3), timeout=2.0)
    assert len(set(told)) == 1
    assert told[0].startswith('processes 2, 4 of 5 did not arrive within 2 s')
    assert address in told[0]


def test_a_missing_process_0_is_named(address):
    (told,) = arrive(address, (2, 1), timeout=1.0)
    assert told.startswith('process 0 of 2 did not arrive within 1 s, says process 1')


def test_other_counts_and_equal_numbers_are_named(address):
    told = arrive(address, (2, 0), (4, 1))
    assert all('started as one of 4 processes, process 0' in text for text in told)
    told = arrive(address, (3, 0), (3, 1), (3, 1))
    assert all('both say that they are process 1 of 3' in text for text in told)


def test_strangers_and_a_process_that_died_waiting_do_not_count(address):
    host, port = address.split(':')
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(arrive, address, (2, 0))
        for line in (b'PRI * HTTP/2.0\r\n', b'resnet_rs 1 2 host\n'):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    with socket.create_connection((host, int(port)), timeout=5) as stranger:
                        stranger.sendall(line)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
        assert arrive(address, (2, 1)) == [None]
        assert waiting.result(30) == [None]


def test_a_port_that_may_not_be_opened_is_named(address, monkeypatch):
    def create_server(*arguments, **settings):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(socket, 'create_server', create_server)  # as for a user who is not root
    (told,) = arrive('localhost:80', (2, 0))
    assert told.startswith('port 80 of ')
    assert 'cannot be opened (Permission denied); choose another port' in told


def test_a_taken_port_is_named(address):
    with socket.create_server(('', int(address.split(':')[1]))):
        (told,) = arrive(address, (2, 0))
    assert 'is taken' in told


@pytest.mark.parametrize('wrong', ['host', 'host:', ':80', 'host:http', 'h:0', 'h:99999'])
def test_an_address_without_port_is_named(wrong):
    with pytest.raises(UserError, match='HOST:PORT'):
        wait_for_all(wrong, 2, 0, 1.0)
