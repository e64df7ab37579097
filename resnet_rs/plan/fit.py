"""A search for a smaller batch, or other options, with which a training step fits."""

from collections.abc import Callable

import ml_collections

from resnet_rs.config import flatten, validation
from resnet_rs.plan.cache import DoesNotFit
from resnet_rs.training.steps import batch_norm_group_size
from resnet_rs.utils.errors import UserError, count_of

# Settings to try, in turn; a setting that the configuration does not have is skipped.
OPTIONS = (
    ('gradient accumulation, 2 micro-batches', {'optimizer.accumulation_steps': 2}),
    ('gradient accumulation, 4 micro-batches', {'optimizer.accumulation_steps': 4}),
    ('gradient accumulation, 8 micro-batches', {'optimizer.accumulation_steps': 8}),
    ('rematerialisation, saving convolution outputs', {'model.remat': 'conv_outputs'}),
    ('rematerialisation of whole blocks', {'model.remat': 'block'}),
    ('optimiser state and EMA sharded over devices', {'sharding.strategy': 'zero1'}),
    ('parameters split too', {'sharding.strategy': 'fsdp'}),
)

Try = Callable[[ml_collections.ConfigDict, str], object]


def with_settings(
    config: ml_collections.ConfigDict, settings: dict
) -> ml_collections.ConfigDict | None:
    """Returns an unlocked copy of `config` with dotted `settings`; None if it lacks one."""
    known = flatten(config.to_dict())
    if any(name not in known for name in settings):
        return None
    changed = ml_collections.ConfigDict(config.to_dict())
    changed.update_from_flattened_dict(settings)
    return changed


def with_batch(
    config: ml_collections.ConfigDict, devices: int, per_device: int
) -> ml_collections.ConfigDict:
    """Returns `config` with `per_device` images on each device, in training and evaluation."""
    size = devices * per_device
    return with_settings(config, {'batch_size': size, 'eval.batch_size': size})


def largest_batch(
    config: ml_collections.ConfigDict, devices: int, error: DoesNotFit, attempt: Try
) -> int | None:
    """Returns the largest divisor of the per-device batch that fits; None if not one image fits.

    attempt(config, what) compiles, and raises DoesNotFit. The missing memory suggests the first
    attempt, because most of the memory grows with the batch; then the interval is halved.
    """
    whole = config.batch_size // devices
    sizes = [size for size in range(1, whole) if whole % size == 0]
    sizes = [size for size in sizes if _is_accepted(with_batch(config, devices, size), devices)]
    fits, fails = -1, len(sizes)
    guess = None
    if error.needed:
        affordable = whole * error.available / error.needed
        guess = max((i for i, size in enumerate(sizes) if size <= affordable), default=0)
    while fails - fits > 1:
        middle = guess if guess is not None else (fits + fails) // 2
        guess = None
        try:
            attempt(
                with_batch(config, devices, sizes[middle]),
                f'{count_of(sizes[middle], "image")} per device',
            )
            fits = middle
        except DoesNotFit:
            fails = middle
    return sizes[fits] if fits >= 0 else None


def options_that_fit(
    config: ml_collections.ConfigDict, devices: int, attempt: Try
) -> dict[str, dict | None]:
    """Returns {option that applies: its settings if the batch then fits, else None}."""
    found, solved = {}, set()
    for name, settings in OPTIONS:
        changed = with_settings(config, settings)
        if changed is None or changed == config or set(settings) & solved:
            continue
        if not _is_accepted(changed, devices):
            continue
        try:
            attempt(changed, name)
            found[name] = settings
            solved |= set(settings)
        except DoesNotFit:
            found[name] = None
    return found


def _is_accepted(config, devices):
    """Returns whether a run has these settings: the parts of its batch divide, for instance."""
    try:
        validation.check_relations(config)
        batch_norm_group_size(config, devices)
    except UserError:
        return False
    return True
