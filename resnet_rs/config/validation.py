"""Checks of a configuration against the table of settings."""

import difflib

import ml_collections

from resnet_rs.config.table import SETTINGS, flatten
from resnet_rs.utils.errors import UserError


def check_settings(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for an unknown setting, an invalid value and for settings that conflict."""
    settings = flatten(config.to_dict())
    for name, value in settings.items():
        check_key(name)
        SETTINGS[name].rule.check(name, value)
    if missing := sorted(SETTINGS.keys() - settings.keys()):
        raise UserError(
            f'the configuration lacks {missing[0]}; start from resnet_rs.config.default_config()'
        )
    for setting in SETTINGS.values():
        if setting.relation and (problem := setting.relation(settings)):
            raise UserError(problem)


def check_key(name: str) -> None:
    """Raises UserError for a setting that does not exist.

    The message suggests the most similar setting, else lists those of the same group, else all.
    """
    if name in SETTINGS:
        return
    group, _, key = name.rpartition('.')
    inside = [known for known in SETTINGS if group and known.startswith(f'{group}.')]
    meant = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.75)
    if not inside:  # the group is missing or does not exist
        meant = [known for known in SETTINGS if known.rpartition('.')[2] == key] or meant
    elif meant and difflib.SequenceMatcher(None, key, meant[0].rpartition('.')[2]).ratio() < 0.6:
        meant = []  # only the groups are similar
    if meant:
        hint = f'did you mean {meant[0]!r}?'
    else:
        hint = f'there are: {", ".join(inside or SETTINGS)}'
    raise UserError(f'the configuration has no setting {name!r}; {hint}')
