"""The order of names that people expect: 'frame 9' before 'frame 10'."""

import re


def natural_key(name: str) -> tuple:
    """Returns a key that sorts the numbers in names by value."""
    parts = re.split(r'(\d+)', name)
    return tuple((int(part), part) if part.isdecimal() else (-1, part) for part in parts)
