"""The notation of config.trainable: which parameters learn, and until when."""

import re

from resnet_rs.utils.rules import DURATION, Rule

ALL, HEAD = 'all', 'head'
FROM_STAGE = re.compile(r'from stage (\d{1,3})')
STAGE = re.compile(r'stage(\d+)')
NEXT = ', then '
UNTIL = re.compile(rf'(.+) until ({DURATION.pattern})')


def phases_of(text: str) -> tuple[tuple[str, str], ...]:
    """Returns (parameters, duration) of each phase of config.trainable; the last duration is ''.

    'head until 50 epochs, then all' is (('head', '50 epochs'), ('all', '')). Raises ValueError for
    a text that is not in this notation.
    """
    *first, last = text.split(NEXT)
    phases = []
    for part in first:
        found = UNTIL.fullmatch(part)
        if not found:
            raise ValueError(f'{part!r} has no end')
        phases.append((found[1], found[2].strip()))
    phases.append((last, ''))
    for which, _ in phases:
        if not which.strip() or ' until ' in which:  # the last phase lasts until the end
            raise ValueError(f'{which!r} names no parameters')
        re.compile(which)
    return tuple(phases)


def covers(which: str, name: str) -> bool:
    """Returns whether the parameters `which` of a phase include `name`.

    `name` is the path of a parameter, such as 'stage3/block1/conv1/kernel'. A regular expression
    covers the paths whose beginning it matches.
    """
    module = name.partition('/')[0]
    if which == ALL:
        return True
    if which == HEAD:
        return module == HEAD
    if first := FROM_STAGE.fullmatch(which):
        stage = STAGE.fullmatch(module)
        return int(stage[1]) >= int(first[1]) if stage else not module.startswith('stem')
    return bool(re.match(which, name))


def trainable() -> Rule:
    """Returns the rule of config.trainable."""

    def allows(value):
        try:
            return bool(phases_of(value))
        except (ValueError, re.error, OverflowError, RecursionError):
            return False

    return Rule(
        str,
        "'all', 'head', 'from stage 3' (and what follows it) or a regular expression for the "
        'beginning of names such as stage3/block1/conv1/kernel; or several with their ends, as '
        "'head until 50 epochs, then all'",
        allows,
        (ALL, HEAD),
    )
