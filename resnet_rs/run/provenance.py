"""Files of a work directory that say what a run learnt from, besides its own data.

A run that resumed with another teacher or other pseudo-labels would be another run, so their
digests are kept and compared.
"""

import json
import os

import jax
from etils import epath

from resnet_rs.multihost import consistency, hosts
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import read_json, replacing


def agree(what: str, facts: dict[str, str]) -> None:
    """Raises UserError unless all hosts have the same facts of `what`, such as 'teacher'."""
    first = json.loads(hosts.gather(what, json.dumps(facts))[0])
    consistency.agree(f'same {what}', consistency.first_difference(facts, first))


def check_same(
    workdir: str | os.PathLike, file: str, facts: dict[str, str], what: str, remedy: str
) -> None:
    """Raises UserError unless `facts` are those in WORKDIR/file, with which the run started.

    `what` names their subject, as 'the teacher in DIR', and `remedy` says how to get it back.
    """
    path = epath.Path(workdir) / file
    restore = 'restore it, or use another --workdir'
    stored = read_json(path, restore)
    if not isinstance(stored, dict):
        raise UserError(f'{path} is damaged: it holds no object; {restore}')
    for name, value in facts.items():
        if stored.get(name) != value:
            raise UserError(
                f'{what} is not the one with which {workdir} was started: its {name} changed from '
                f'{stored.get(name)} to {value}; {remedy}, or use a new --workdir'
            )


def write(workdir: str | os.PathLike, file: str, facts: dict[str, str | int]) -> None:
    """Writes WORKDIR/file; process 0 does it for all."""
    if jax.process_index() != 0:
        return
    with replacing(epath.Path(workdir) / file) as partial:
        partial.write_text(json.dumps(facts, indent=2) + '\n')
