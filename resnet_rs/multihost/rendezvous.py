"""Rendezvous of the processes of a run, which names the processes that do not start.

jax.distributed.initialize also blocks, but its timeout does not name the missing processes. So the
processes first report to process 0 on the port that JAX's coordination service takes afterwards.
The protocol is plain text over TCP: a process sends one line, 'resnet_rs INDEX COUNT HOSTNAME', and
reads one line, 'go' or an error.
"""

import contextlib
import errno
import socket
import time

from resnet_rs.utils.errors import UserError

# Process 0 sees the end of a process that greeted and died a moment after the greeting.
SETTLING_SECONDS = 0.25
RETRY_SECONDS = 0.5
_GREETING, _GO = 'resnet_rs', 'go'


def wait_for_all(address: str, count: int, index: int, timeout_seconds: float) -> None:
    """Waits on every process until all `count` of them have started.

    `address` is HOST:PORT of process 0. Raises the same UserError on all started processes; it
    names those that do not start within `timeout_seconds`, or that have another count or the same
    index.
    """
    host, _, port = address.rpartition(':')
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UserError(
            f'the coordinator is {address!r}; it takes HOST:PORT of process 0, with a port from 1 '
            'to 65535'
        )
    if index == 0:
        problem = _receive(int(port), count, timeout_seconds)
    else:
        problem = _report((host.strip('[]'), int(port)), count, index, timeout_seconds)
    if problem:
        raise UserError(f'{problem} (coordinator {address})')


def _receive(port: int, count: int, timeout_seconds: float) -> str:
    """Collects the other processes in process 0, answers all alike and returns an error or ''."""
    deadline = time.monotonic() + timeout_seconds
    arrived, problem = {}, ''
    with contextlib.ExitStack() as closing:
        server = closing.enter_context(_listen(port))
        while not problem and len(arrived) < count - 1 and time.monotonic() < deadline:
            server.settimeout(min(RETRY_SECONDS, max(deadline - time.monotonic(), 0.01)))
            with contextlib.suppress(TimeoutError):
                connection = closing.enter_context(server.accept()[0])
                problem = _register(connection, arrived, count)
            if len(arrived) == count - 1:
                time.sleep(SETTLING_SECONDS)
            arrived = {index: process for index, process in arrived.items() if _is_open(process[0])}
        missing = [str(index) for index in range(1, count) if index not in arrived]
        if missing and not problem:
            noun = 'process' if len(missing) == 1 else 'processes'
            problem = (
                f'{noun} {", ".join(missing)} of {count} did not arrive within '
                f'{timeout_seconds:g} s; start the same command on every host'
            )
        for connection, _ in arrived.values():
            with contextlib.suppress(OSError):  # the process is lost, and JAX will report it
                connection.sendall(f'{problem or _GO}\n'.encode())
    return problem


def _register(connection: socket.socket, arrived: dict, count: int) -> str:
    """Adds index: (connection, hostname) to `arrived`; returns an error or ''."""
    connection.settimeout(5)
    words = _read_line(connection).split()
    if len(words) != 4 or words[0] != _GREETING:
        return ''  # a port scan, or JAX's client of another run
    index, its_count, host = int(words[1]), int(words[2]), words[3]
    if its_count != count or not 0 < index < count:
        problem = (
            f'process {index} on {host} was started as one of {its_count} processes, process 0 on '
            f'{socket.gethostname()} as one of {count}; start all with the same number'
        )
    elif index in arrived and _is_open(arrived[index][0]):
        problem = (
            f'{arrived[index][1]} and {host} both say that they are process {index} of {count}; '
            'give each its own number, from 0'
        )
    else:
        arrived[index] = (connection, host)
        return ''
    with contextlib.suppress(OSError):
        connection.sendall(f'{problem}\n'.encode())
    return problem


def _report(address: tuple[str, int], count: int, index: int, timeout_seconds: float) -> str:
    """Reports to process 0 from another process and returns its error, '' for go."""
    deadline = time.monotonic() + timeout_seconds
    answered = False
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, timeout=left) as connection:
                greeting = f'{_GREETING} {index} {count} {socket.gethostname()}\n'
                connection.sendall(greeting.encode())
                answered = True
                # Process 0 may have started to wait later than this process.
                connection.settimeout(timeout_seconds + 5)
                if line := _read_line(connection):
                    return '' if line == _GO else line
        except OSError:
            pass  # process 0 has not started yet
        time.sleep(RETRY_SECONDS)
    if answered:
        return f'process {index} of {count} reached process 0, which did not answer'
    return (
        f'process 0 of {count} did not arrive within {timeout_seconds:g} s, says process {index} '
        f'on {socket.gethostname()}; start the same command on every host, and see that the '
        'port is open between them'
    )


def _listen(port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ('', port),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            dualstack_ipv6=dual,
            backlog=1024,
        )
    except OSError as error:
        where = f'port {port} of {socket.gethostname()}'
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f'{where} is taken: end the earlier run that still holds it, or choose another '
                'port for the coordinator'
            ) from error
        raise UserError(
            f'{where} cannot be opened ({error.strerror}); choose another port for the '
            'coordinator, from 1024 on'
        ) from error


def _read_line(connection: socket.socket) -> str:
    """Reads the first line, without its end; '' if the other side closed or sent nothing."""
    received = b''
    with contextlib.suppress(OSError):
        while not received.endswith(b'\n') and len(received) < 4096:
            if not (part := connection.recv(4096)):
                return ''
            received += part
    return received.decode(errors='replace').strip()


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b''
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.setblocking(True)
