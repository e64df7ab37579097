"""The one exception for mistakes a person can mend."""


class UserError(Exception):
    """A wrong setting, file or environment: the message says what, the value seen, what to do.

    main.py and the tools print it as one line and exit with status 2; every other exception is
    a bug in the program and keeps its traceback.
    """
