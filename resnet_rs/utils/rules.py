"""Rules for the values of settings; the table in `resnet_rs.config` gives every setting one."""

import ast
import dataclasses
import difflib
import fractions
import itertools
import math
import re
from collections.abc import Callable
from typing import Any

from resnet_rs.utils.errors import UserError

MOST_NAME_BYTES = 255  # of a file, on Linux
SQUASH = 'squash'  # the evaluation crop that resizes the whole image to a square
DURATION = re.compile(r'\s*(\d+(?:\.\d*)?)\s*(epoch|step|example)s?\s*')


@dataclasses.dataclass(frozen=True)
class Rule:
    """The type and the allowed values of a setting.

    kind: int, float, bool, str or tuple; a float setting takes whole numbers too.
    takes: the allowed values in words, for error messages.
    allows: returns whether a value of that type is allowed.
    names: the names that a value may consist of, for suggestions in error messages.
    """

    kind: type
    takes: str
    allows: Callable[[Any], bool] = lambda value: True
    names: tuple[str, ...] = ()

    def check(self, setting: str, value: Any) -> None:
        """Raises UserError, with the allowed values, unless `value` is one of them."""
        if not (self._has_type(value) and self.allows(value)):
            raise UserError(f'{setting} is {value!r}; it takes {self._advice(value)}')

    def parse(self, setting: str, text: str) -> Any:
        """Parses the `text` of the command line; raises UserError unless it is of this type."""
        try:
            if self.kind is str:
                return text
            if self.kind is bool:
                return {'true': True, 'false': False, '1': True, '0': False}[text.lower()]
            if self.kind is tuple:
                return tuple(ast.literal_eval(text))
            return self.kind(text)
        except (ValueError, KeyError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise UserError(f'{setting} is {text!r}; it takes {self._advice(text)}') from None

    def _has_type(self, value: Any) -> bool:
        if self.kind is float:
            return _is_number(value)
        if self.kind is int:
            return isinstance(value, int) and not isinstance(value, bool)
        return isinstance(value, self.kind)

    def _advice(self, value: Any) -> str:
        near = difflib.get_close_matches(str(value), self.names, n=1, cutoff=0.7)
        return f'{self.takes}; did you mean {near[0]!r}?' if near else self.takes


def whole(least: int, most: int | None = None, meaning: str = '') -> Rule:
    """Returns the rule of a whole number from `least` to `most`; `meaning` explains a value."""
    limits = f', {least} or more' if most is None else f' from {least} to {most}'
    highest = math.inf if most is None else most
    return Rule(
        int,
        f'a whole number{limits}' + (meaning and f' ({meaning})'),
        lambda value: least <= value <= highest,
    )


def whole_numbers() -> Rule:
    """Returns the rule of several different whole numbers from 0 on, in any order."""

    def allows(value):
        numbers = all(isinstance(each, int) and not isinstance(each, bool) for each in value)
        return numbers and min(value, default=0) >= 0 and len(set(value)) == len(value)

    return Rule(tuple, 'different whole numbers, 0 or more, such as (0, 1, 2)', allows)


def number(
    least: float, most: float = math.inf, *, above: bool = False, below: bool = False
) -> Rule:
    """Returns the rule of a finite number from `least` to `most`.

    `above` excludes `least`, `below` excludes `most`.
    """
    lower = f'above {least:g}' if above else f'of {least:g} or more'
    upper = '' if most == math.inf else f' and {"below" if below else "at most"} {most:g}'

    def allows(value):
        return (value > least if above else value >= least) and (
            value < most if below else value <= most
        )

    return Rule(float, f'a number {lower}{upper}', allows)


def flag() -> Rule:
    """Returns the rule of a switch."""
    return Rule(bool, 'True or False')


def text(*, required: bool = False) -> Rule:
    """Returns the rule of free text, which may be empty unless `required`.

    The texts are names of files and datasets, so each part must be a valid file name.
    """

    def allows(value):
        parts = value.encode(errors='surrogateescape').split(b'/')
        named = all(len(part) <= MOST_NAME_BYTES and b'\0' not in part for part in parts)
        return named and bool(value or not required)

    kind = 'a text that is not empty' if required else 'a text'
    return Rule(str, f'{kind}, with at most {MOST_NAME_BYTES} bytes between slashes', allows)


def optional(rule: Rule, meaning: str) -> Rule:
    """Returns `rule`, which takes 0 or an empty text too; `meaning` explains it."""
    return Rule(
        rule.kind,
        f'{rule.kind()!r} ({meaning}) or {rule.takes}',
        lambda value: not value or rule.allows(value),
        rule.names,
    )


def choice(*names: str) -> Rule:
    """Returns the rule of a text that is one of `names`."""
    return Rule(str, _alternatives(names), lambda value: value in names, names)


def network(names: tuple[str, ...]) -> Rule:
    """Returns the rule of a network's name."""
    return Rule(
        str, f'the name of a network ({", ".join(names)})', lambda value: value in names, names
    )


def joined(names: tuple[str, ...]) -> Rule:
    """Returns the rule of one of `names`, or of several joined by '+'."""
    return Rule(
        str,
        f"{_alternatives(names)}, or several joined by '+'",
        lambda value: all(name in names for name in value.split('+')),
        names,
    )


def per_stage(names: tuple[str, ...]) -> Rule:
    """Returns the rule of one of `names`, or of one per stage joined by ','."""
    return Rule(
        str,
        f"{_alternatives(names)}, or such a name for each stage with ',' between",
        lambda value: all(name.strip() in names for name in value.split(',')),
        names,
    )


def subset(names: tuple[str, ...]) -> Rule:
    """Returns the rule of a tuple of some of `names`, which may be empty."""
    return Rule(
        tuple,
        f'a tuple of names from {", ".join(names)}',
        lambda value: all(name in names for name in value),
        names,
    )


def interval(least: float, most: float = math.inf) -> Rule:
    """Returns the rule of a lower and an upper number above `least` and at most `most`."""
    limit = '' if most == math.inf else f' and at most {most:g}'

    def allows(value):
        return (
            len(value) == 2
            and all(map(_is_number, value))
            and (least < value[0] <= value[1] <= most)
        )

    return Rule(tuple, f'a lower and an upper number above {least:g}{limit}, as (0.5, 1)', allows)


def fractions_of_run() -> Rule:
    """Returns the rule of ascending parts of a run, each above 0 and below 1; there may be none."""

    def allows(value):
        return all(map(_is_number, value)) and all(
            low < high for low, high in itertools.pairwise((0, *value, 1))
        )

    return Rule(tuple, 'ascending numbers above 0 and below 1, as (0.25, 0.5)', allows)


def colour(*, positive: bool = False) -> Rule:
    """Returns the rule of three numbers, one for each of red, green and blue."""
    return Rule(
        tuple,
        f'three numbers{" above 0" if positive else ""}, for red, green and blue',
        lambda value: (
            len(value) == 3 and all(map(_is_number, value)) and (not positive or min(value) > 0)
        ),
    )


def duration(*, may_be_zero: bool = False) -> Rule:
    """Returns the rule of a number and a unit, as '350 epochs'."""

    def allows(value):
        found = DURATION.fullmatch(value)
        return bool(found) and (may_be_zero or float(found[1]) > 0)

    least = '' if may_be_zero else ' above 0'
    return Rule(
        str, f"a number{least} and a unit, as '350 epochs', '1000 steps' or '5000 examples'", allows
    )


def checkpoint() -> Rule:
    """Returns the rule of the name of a checkpoint."""
    return Rule(
        str,
        "'last', 'best' (by EMA top-1) or a step, as '1000'",
        lambda value: value in ('last', 'best') or re.fullmatch(r'\d{1,18}', value, re.ASCII),
        ('last', 'best'),
    )


def center_crop() -> Rule:
    """Returns the rule of an evaluation crop (see `crop_fraction`)."""
    return Rule(
        str,
        "'padding 32' (or another whole number of pixels), 'fraction 0.875' (or another number "
        "above 0 and at most 1) or 'squash' (the whole image)",
        lambda value: value == SQUASH or crop_fraction(value, 1) is not None,
    )


def crop_fraction(value: str, size: int) -> fractions.Fraction | None:
    """Returns the side of a centre crop as a fraction of the image's shorter side.

    'padding 32' is size / (size + 32), as in the authors' code; 'fraction 0.875' is that fraction.
    Any other text gives None; so does SQUASH, which crops nothing.
    """
    kind, _, amount = value.partition(' ')
    if kind == 'padding' and re.fullmatch(r'\d{1,6}', amount, re.ASCII):
        return fractions.Fraction(size, size + int(amount))
    if kind == 'fraction' and re.fullmatch(r'\d{0,9}[./]?\d{1,9}', amount, re.ASCII):
        try:
            part = fractions.Fraction(amount)
        except (ValueError, ZeroDivisionError):
            return None
        return part if 0 < part <= 1 else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _alternatives(names: tuple[str, ...]) -> str:
    quoted = [repr(name) for name in names]
    return ' or '.join(filter(None, [', '.join(quoted[:-1]), quoted[-1]]))
