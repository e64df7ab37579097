"""Combinations of settings: every function returns a list of {axis: value}.

product(values('depth', (14, 26)), values('seed', range(3)))      # 6 of them
zipped(values('depth', (50, 101)), values('resolution', (160, 192)))      # 2
"""

import itertools
from collections.abc import Iterable

from resnet_rs.utils.errors import UserError

Settings = list[dict]


def values(axis: str, options: Iterable) -> Settings:
    """One axis: [{axis: option}, ...]."""
    return [{axis: option} for option in options]


def product(*parts: Settings) -> Settings:
    """Each of the first with each of the second and so on; the last axis varies fastest."""
    return [_union(combination) for combination in itertools.product(*parts)]


def zipped(*parts: Settings) -> Settings:
    """The first of each, the second of each, ...; UserError for parts of different lengths."""
    if len({len(part) for part in parts}) > 1:
        raise UserError(
            f'zipped() got parts of {", ".join(str(len(part)) for part in parts)} settings; '
            'they must be of one length'
        )
    return [_union(combination) for combination in zip(*parts, strict=True)]


def chain(*parts: Settings) -> Settings:
    """All of the first, then all of the second, ..."""
    return list(itertools.chain(*parts))


def run_name(settings: dict) -> str:
    """'depth14-width0.25-seed0': the settings as a directory's name."""
    return '-'.join(f'{axis}{value}' for axis, value in settings.items())


def _union(combination: Iterable[dict]) -> dict:
    union = {}
    for settings in combination:
        if twice := sorted(union.keys() & settings.keys()):
            raise UserError(f'the sweep sets {twice[0]!r} twice in one combination; set it once')
        union |= settings
    return union
