"""The lines of the log, as a person reads them."""

import logging as standard_logging
import os
import sys

from absl import flags, logging


def log_for_people() -> None:
    """Shortens the lines of the log, and drops messages of libraries below a warning.

    A command calls it once, before it does anything else.
    """
    logging.use_absl_handler()
    if not flags.FLAGS.is_parsed():  # absl would announce that it logs before its flags are parsed
        flags.FLAGS.mark_as_parsed()
    logging.get_absl_handler().addFilter(is_for_people)
    logging.get_absl_handler().setFormatter(ShortLines(in_terminal=sys.stderr.isatty()))


def is_for_people(record: standard_logging.LogRecord) -> bool:
    """Returns whether a record is a warning, or comes from this package or a file of the user."""
    folders = record.pathname.split(os.sep)
    is_library = {'site-packages', 'dist-packages'} & set(folders) and 'resnet_rs' not in folders
    return record.levelno > standard_logging.INFO or not is_library


class ShortLines(standard_logging.Formatter):
    """A formatter of log lines: the time, 'WARNING: ' or worse, and the message.

    In a terminal a line replaces the progress bar, which is drawn again below it. Elsewhere the
    time has a date, because runs last for days.
    """

    def __init__(self, in_terminal: bool):
        super().__init__(datefmt='%H:%M:%S' if in_terminal else '%Y-%m-%d %H:%M:%S')
        self._start = '\r\x1b[K' if in_terminal else ''

    def format(self, record: standard_logging.LogRecord) -> str:
        level = '' if record.levelno <= standard_logging.INFO else f'{record.levelname}: '
        text = f'{self._start}{self.formatTime(record, self.datefmt)} {level}{record.getMessage()}'
        return f'{text}\n{self.formatException(record.exc_info)}' if record.exc_info else text
