"""A setting of a run, an entry of the table in table.py."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

from resnet_rs.utils.rules import Rule


class Change(enum.Enum):
    """The meaning of another value of a setting for a run."""

    EXPERIMENT = 'another experiment; fixed when the run starts'
    SEED = 'another run of the same experiment; fixed when the run starts'
    EVALUATION = 'the same run, evaluated differently; may change on a resume'
    RESUME = 'the same run; may change on a resume'
    HOST = 'the same run; may change on a resume and differ between hosts'


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of a run.

    change: the meaning of another value for a run.
    replaces: the setting of the run that an evaluation's own setting replaces.
    relation: a function of all settings, {name: value}, that returns why this setting conflicts
      with another one, or ''. It is called once every setting obeys its own rule.
    """

    default: Any
    rule: Rule
    meaning: str
    change: Change = Change.EXPERIMENT
    relation: Callable[[Mapping[str, Any]], str] | None = None
    replaces: str = ''
