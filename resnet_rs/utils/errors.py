"""Errors that a user can correct, and how a command reports them."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence


class UserError(Exception):
    """An error in a setting, a file or the environment that the user can correct.

    The message says what is wrong, the value seen and what to do. The commands print it as one
    line and exit with status 2; every other exception is a bug in the code and keeps its traceback.
    """


class Stopped(Exception):
    """The end of a run before its last step, after its checkpoint was saved.

    status: the exit status of the command.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def one_line_errors(*types: type[Exception]):
    """Ends the process with one line on stderr and status 2 on an error of one of the `types`.

    It ends without a line when the reader of the output, such as `head`, has read enough.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        sys.exit(1)
    except types as error:
        print_line(error)
        sys.exit(2)
    except Stopped as stop:
        print_line(stop, 'stopped')
        sys.exit(stop.status)


def print_line(message: object, kind: str = 'error') -> None:
    """Prints a message as one line on stderr; its line breaks become spaces."""
    print(f'{kind}:', ' '.join(str(message).split()), file=sys.stderr, flush=True)


def first_of(names: Sequence[object], most: int = 3) -> str:
    """Returns the first different `names` and how many more there are: 'a, b and 2 more'."""
    names = list(dict.fromkeys(map(str, names)))
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more


def count_of(number: float, noun: str) -> str:
    """Returns a number and its noun: '1 image', '2,048 images', '3 classes', '1.5 epochs'."""
    ending = 'es' if noun.endswith(('s', 'tch')) else 's'
    text = f'{number:.4g}' if isinstance(number, float) else f'{number:,}'
    return f'{text} {noun}{ending if text != "1" else ""}'


class CommandParser(argparse.ArgumentParser):
    """Parser of a command's arguments that reports an error as one line, with status 2.

    --help prints `description`, the docstring of the command, without reflowing it. A path that
    begins with ~ is one in the home directory also in `--name=~/DIR`, which no shell expands.
    """

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def parse_known_args(self, args=None, namespace=None):
        """Parses as the base class does, which also calls this for `parse_args`."""
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args(with_home(args), namespace)

    def error(self, message: str):
        print_line(f'{message}; see {self.prog} --help')
        sys.exit(2)

    def add_images_for(self, network: str) -> None:
        """Adds the checkpoint of a network, and the images that it sees.

        An argument that is not given is taken from the network's configuration; `network` is the
        word for it in the help.
        """
        self.add_argument(
            '--checkpoint', type=checkpoint_name, default='last', metavar='STEP',
            help="'last', 'best' or a step (default: %(default)s)",
        )  # fmt: skip
        own = f"(default: the {network}'s)"
        self.add_argument('--data', metavar='NAME', help=f'tfds set {own}')
        self.add_argument(
            '--source', choices=('tfds', 'image_folder'), help=f'where the images are {own}'
        )
        self.add_argument('--data_dir', metavar='DIR', help=f'directory of the data {own}')
        self.add_argument(
            '--classes',
            type=_whole_number,
            nargs='+',
            metavar='N',
            help=f'numbers of the classes to use, in the order of their new numbers {own}',
        )
        self.add_argument('--batch_size', type=positive_integer, help=f'images at once {own}')
        self.add_argument('--image_size', type=positive_integer, help=f'pixels {own}')


def with_home(arguments: Sequence[str]) -> list[str]:
    """Returns a command line with the home directory in place of ~ at the start of each value."""
    expanded = []
    for argument in arguments:
        name, is_equal, value = argument.partition('=')
        if is_equal and name.startswith('-'):
            argument = f'{name}={os.path.expanduser(value)}'
        else:
            argument = os.path.expanduser(argument)
        expanded.append(argument)
    return expanded


class Renamed(argparse.Action):
    """Action of a renamed argument: an error that says its new name, `const`."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f'{option_string} is now {self.const}')


def checkpoint_name(text: str) -> str:
    """Checks the text of --checkpoint for argparse: 'last', 'best' or a step."""
    if text not in ('last', 'best') and not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither 'last' nor 'best' nor a step; the directory is --workdir=DIR"
        )
    return text


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number')
    return int(text)


def positive_integer(text: str) -> int:
    """Parses a positive integer for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a positive whole number')
    return int(text)
