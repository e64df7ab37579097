"""The evaluations of a run: the default one, and those that config.evals names.

A config file adds one with `config.evals.real = dict(name='imagenet2012_real')`; what it leaves out
is as in the default evaluation (EVALUATION_SETTINGS in table.py).
"""

import ml_collections

from resnet_rs.config.relations import DEFAULT_EVALUATION
from resnet_rs.config.table import EVALUATION_SETTINGS
from resnet_rs.utils.errors import UserError


def evaluation_names(config: ml_collections.ConfigDict, only: str = '') -> tuple[str, ...]:
    """Returns the default evaluation's name and those in config.evals, or the one `only`.

    Raises UserError where `only` is no evaluation of `config`.
    """
    names = (DEFAULT_EVALUATION, *sorted(config.get('evals', {})))
    if not only:
        return names
    if only not in names:
        raise UserError(f'{only!r} is no evaluation of this run; there are {", ".join(names)}')
    return (only,)


def deciding_setting(config: ml_collections.ConfigDict, name: str, key: str) -> str:
    """Returns the setting that `key` of the evaluation `name` comes from: eval.batch_size, say."""
    if name != DEFAULT_EVALUATION and config.evals[name].get(key):
        return f'evals.{name}.{key}'
    return f'eval.{key}'


def with_image_size(
    config: ml_collections.ConfigDict, size: int | None
) -> ml_collections.ConfigDict:
    """Returns `config` with all its evaluations at `size` pixels; None leaves them as they are."""
    if size is None:
        return config
    changed = config.copy_and_resolve_references().unlock()
    changed.eval.image_size = size
    for evaluation in changed.evals.values():
        evaluation.image_size = size
    return changed.lock()


def evaluation_config(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    """Returns the configuration of a run whose default evaluation is the evaluation `name`.

    It has no training split, and no cache in memory, which would hold only the training split.
    """
    if name == DEFAULT_EVALUATION:
        return config
    changed = config.copy_and_resolve_references().unlock()
    for key, value in config.evals[name].items():
        if value:
            changed.update_from_flattened_dict({EVALUATION_SETTINGS[key].replaces: value})
    changed.data.train_split = changed.data.eval_split
    if changed.data.cache == 'memory':
        changed.data.cache = ''
    return changed.lock()
