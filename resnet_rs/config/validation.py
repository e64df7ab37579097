"""Checks of a configuration against the table of settings."""

import difflib
import re

import ml_collections

from resnet_rs.config.relations import DEFAULT_EVALUATION
from resnet_rs.config.table import (
    EVALUATION_SETTINGS,
    SETTINGS,
    flatten,
    setting_of,
)
from resnet_rs.utils.errors import UserError


def check_settings(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for an unknown setting, an invalid value and for settings that conflict."""
    settings = flatten(config.to_dict())
    for name, value in settings.items():
        check_key(name)
        setting_of(name).rule.check(name, value)
    for name in config.get('evals', {}):
        check_evaluation_name(name)
        if not config.evals[name]:
            raise UserError(
                f'evals.{name} has no setting, so it would repeat the default evaluation; give it '
                f'one of {", ".join(EVALUATION_SETTINGS)}'
            )
    if missing := sorted(SETTINGS.keys() - settings.keys()):
        raise UserError(
            f'the configuration lacks {missing[0]}; start from resnet_rs.config.default_config()'
        )
    check_relations(config)


def check_relations(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for settings that conflict, where each of them is valid by itself."""
    settings = flatten(config.to_dict())
    for setting in SETTINGS.values():
        if setting.relation and (problem := setting.relation(settings)):
            raise UserError(problem)


def check_evaluation_name(name: str) -> None:
    """Raises UserError unless `name` can be that of an evaluation in config.evals."""
    if not re.fullmatch(r'[A-Za-z]\w{0,63}', name, re.ASCII) or name == DEFAULT_EVALUATION:
        raise UserError(
            f'evals.{name} is not a name for an evaluation; it takes up to 64 letters, digits and '
            f'underscores, the first a letter, and not {DEFAULT_EVALUATION!r}, the default one'
        )


def check_key(name: str) -> None:
    """Raises UserError for a setting that does not exist.

    The message suggests the most similar setting, else lists those of the same group, else all.
    """
    if setting_of(name):
        return
    group, _, key = name.rpartition('.')
    there = list(SETTINGS)
    if name.partition('.')[0] == 'evals':
        group = f'evals.{[*name.split("."), "NAME"][1]}'
        there = [f'{group}.{known}' for known in EVALUATION_SETTINGS]
    inside = [known for known in there if group and known.startswith(f'{group}.')]
    meant = difflib.get_close_matches(name, there, n=1, cutoff=0.75)
    if not inside:  # the group is missing or does not exist
        meant = [known for known in SETTINGS if known.rpartition('.')[2] == key] or meant
    elif meant and difflib.SequenceMatcher(None, key, meant[0].rpartition('.')[2]).ratio() < 0.6:
        meant = []  # only the groups are similar
    if meant:
        hint = f'did you mean {meant[0]!r}?'
    else:
        hint = f'there are: {", ".join(inside or SETTINGS)}'
    raise UserError(f'the configuration has no setting {name!r}; {hint}')
