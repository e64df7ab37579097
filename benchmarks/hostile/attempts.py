"""Attempts to read damaged files, and their outcomes."""

import contextlib
import io
import pathlib
import random
import traceback

from hostile.mutations import EXECUTED, mutate
from resnet_rs.config import SETTINGS
from resnet_rs.utils.errors import UserError

OUTCOMES = ('read', 'refused', 'unnamed', 'traceback', 'executed', 'hang', 'crash', 'memory')


class Attempts:
    """A directory with good files of one kind; each attempt damages and reads one of them."""

    def __init__(self, kind, directory: pathlib.Path, seed: int):
        self._kind = kind
        self._directory = directory / 'files'
        self._directory.mkdir()
        self._seed = seed
        self._files = kind.write(self._directory)
        self._good = self._content()
        for file in (*self._files[:1] * 2, *self._files[-1:]):  # what is kept for good is there
            with self._aside():
                kind.read(self._directory, file)

    def damage(self, number: int) -> None:
        """Makes mutation `number`, of one of the files in turn."""
        self._damaged = self._files[number % len(self._files)]
        numbers = random.Random(f'{self._seed} {number}')
        self._damaged.write_bytes(mutate(self._damaged.name, self._good[self._damaged], numbers))

    def read(self) -> dict:
        """Reads the damaged file and restores it.

        Returns {'outcome': one of OUTCOMES, 'detail': the message, 'memory': peak bytes}.
        """
        pathlib.Path('/proc/self/clear_refs').write_text('5')  # starts VmHWM anew
        before = memory()['VmRSS']
        outcome, detail = self._outcome(self._damaged)
        if (self._directory / EXECUTED).exists():
            outcome = 'executed'
            (self._directory / EXECUTED).rmdir()
        taken = memory()['VmHWM'] - before
        self._mend()
        return {'outcome': outcome, 'detail': detail, 'memory': taken}

    def _outcome(self, file: pathlib.Path) -> tuple[str, str]:
        try:
            with self._aside() as errors:
                self._kind.read(self._directory, file)
        except UserError as error:
            return self._named(file, str(error)), str(error)
        except SystemExit:
            message = errors.getvalue()
            one_line = message.startswith('error: ') and message.count('\n') == 1
            return self._named(file, message) if one_line else 'traceback', message
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if 'site-packages' not in frame.filename][-1]
            place = f'{pathlib.Path(ours.filename).name}:{ours.lineno}'
            return 'traceback', f'{type(error).__name__} at {place}: {" ".join(str(error).split())}'
        return 'read', ''

    def _named(self, file: pathlib.Path, message: str) -> str:
        names = [str(file)]
        if self._kind.named == 'prefix':
            names.append(str(file).rpartition('.')[0])
        if self._kind.named == 'directory':
            names += [
                str(folder)
                for folder in file.parents
                if folder.is_relative_to(self._directory) and folder != self._directory
            ]
        if self._kind.named == 'setting':
            names += [*SETTINGS, 'has no setting', '--data_dir', 'data directory', str(file.parent)]
        return 'refused' if any(name in message for name in names) else 'unnamed'

    @contextlib.contextmanager
    def _aside(self):
        """Changes to the directory and captures stdout and stderr; yields the latter."""
        errors = io.StringIO()
        with contextlib.chdir(self._directory), contextlib.redirect_stdout(io.StringIO()):
            with contextlib.redirect_stderr(errors):
                yield errors

    def _content(self) -> dict[pathlib.Path, bytes]:
        return {file: file.read_bytes() for file in self._directory.rglob('*') if file.is_file()}

    def _mend(self) -> None:
        now = self._content()
        for file in now.keys() - self._good.keys():
            file.unlink()
        for file, content in self._good.items():
            if now.get(file) != content:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)


def memory(process: int | str = 'self') -> dict[str, int]:
    """Returns a process's {'VmRSS': bytes in use, 'VmHWM': peak, 'VmSize': address space}."""
    lines = pathlib.Path(f'/proc/{process}/status').read_text().splitlines()
    return {
        name: 1024 * int(value.split()[0])
        for name, _, value in (line.partition(':') for line in lines)
        if name in ('VmRSS', 'VmHWM', 'VmSize')
    } or {'VmRSS': 0}
