"""Combinations of settings: every function returns a list of {axis: value}.

product(values('depth', (14, 26)), values('seed', range(3)))      # 6 combinations
"""

import itertools
from collections.abc import Iterable

from resnet_rs.utils.errors import UserError

Settings = list[dict]


def values(axis: str, options: Iterable) -> Settings:
    """Returns one axis: [{axis: option}, ...]."""
    return [{axis: option} for option in options]


def product(*parts: Settings) -> Settings:
    """Combines each of the first with each of the second, and so on; the last varies fastest."""
    return [_union(combination) for combination in itertools.product(*parts)]


def chain(*parts: Settings) -> Settings:
    """Concatenates the parts."""
    return list(itertools.chain(*parts))


def run_name(settings: dict) -> str:
    """Returns the settings as a directory's name, such as 'depth14-width0.25-seed0'."""
    return '-'.join(f'{axis}{value}' for axis, value in settings.items())


def _union(combination: Iterable[dict]) -> dict:
    union = {}
    for settings in combination:
        if twice := sorted(union.keys() & settings.keys()):
            raise UserError(f'the sweep sets {twice[0]!r} twice in one combination; set it once')
        union |= settings
    return union
