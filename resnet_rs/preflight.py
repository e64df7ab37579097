"""What can be known to be wrong before anything is imported, compiled or written.

Neither JAX nor TensorFlow is loaded here, so a mistake shows in a second.
"""

import difflib
import glob
import os
import re
import tempfile

import ml_collections
from etils import epath

from resnet_rs.config import default_config, flatten
from resnet_rs.datasets.file_cache import check_cache
from resnet_rs.datasets.locate import DatasetInfo, find_dataset
from resnet_rs.durations import to_steps
from resnet_rs.errors import UserError
from resnet_rs.stored_config import (
    CLASS_NAMES_FILE,
    CONFIG_FILE,
    read_class_names,
    read_config,
)

# Settings that may differ when a run is taken up again: they change neither what is learnt nor
# which data is seen.
FREE_ON_RESUME = (
    'model.scan_blocks', 'model.remat', 'data.data_dir', 'data.threads', 'data.prefetch_batches',
    'data.host_memory_gib', 'data.cache', 'eval.', 'checkpoint.', 'log.', 'sharding.',
    'hosts.',
)


def check_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> DatasetInfo:
    """Raises UserError for whatever would stop this run later; returns what the dataset is."""
    info = check_evaluation(config)
    info.split(config.data.train_split)
    examples = info.split(config.data.train_split).num_examples
    for name in ('duration', 'optimizer.warmup', 'eval.every', 'checkpoint.every', 'log.every'):
        value = get_dotted(config, name)
        steps = to_steps(value, batch_size=config.batch_size, examples_per_epoch=examples)
        if steps < 1 and name == 'duration':
            raise UserError(f'duration {value!r} is less than one step; make it longer')
    check_ranges(config)
    check_cache(info, config.data)
    if config.init_from and read_config(config.init_from) is None:
        raise UserError(
            f'init_from is {config.init_from!r}, which holds no {CONFIG_FILE}; name the work '
            'directory of a run or of converted weights'
        )
    check_workdir(config, workdir)
    return info


def check_ranges(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for crop settings that are not a range, and for negative alphas."""
    for name, most in (('data.crop_area', 1), ('data.crop_ratio', float('inf'))):
        value = get_dotted(config, name)
        if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
            raise UserError(
                f'{name} is {value}; it takes a lower and an upper number above 0'
                + (f' and at most {most}' if most == 1 else '')
            )
    for name in ('data.mixup_alpha', 'data.cutmix_alpha'):
        value = get_dotted(config, name)
        if value < 0:
            raise UserError(f'{name} is {value}; it takes 0 (off) or a number above')


def parse_steps(text: str) -> tuple[int, int] | None:
    """'100:110' as (100, 110), None for ''. Raises UserError for what is no range of steps."""
    if not text:
        return None
    found = re.fullmatch(r'(\d+):(\d+)', text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(
            f'--profile_steps is {text!r}; write the first and the last step to trace, counted '
            'from 1: 100:110'
        )
    return int(found[1]), int(found[2])


def check_evaluation(config: ml_collections.ConfigDict) -> DatasetInfo:
    """Raises UserError unless the dataset is there and has the classes the network tells apart."""
    check_keys(config)
    info = find_dataset(config.data)
    info.split(config.data.eval_split)
    if info.num_classes != config.model.num_classes:
        raise UserError(
            f'model.num_classes is {config.model.num_classes}, but {info.name} has '
            f'{info.num_classes} classes; use --config.model.num_classes={info.num_classes}'
        )
    return info


def check_class_order(info: DatasetInfo, workdir: str | os.PathLike) -> None:
    """Raises UserError where the dataset numbers its classes otherwise than the run in `workdir`.

    Classes that are only numbers in either of them (folders of ImageNet-V2) cannot be compared.
    """
    path = epath.Path(workdir) / CLASS_NAMES_FILE
    names = read_class_names(workdir)
    if any(all(map(str.isdecimal, side)) for side in (names, info.class_names)):
        return
    for number, (trained, here) in enumerate(zip(names, info.class_names, strict=False)):
        if trained != here:
            raise UserError(
                f'class {number} is {trained!r} in {path}, but {here!r} in {info.name}: the '
                'network would be scored against wrong labels; name or order the classes alike'
            )


def check_command_line(arguments: list[str]) -> None:
    """Raises UserError for a --config file that is not there or a --config.KEY that is unknown."""
    known = flatten(default_config().to_dict())
    for argument in arguments[1:]:
        name, _, value = argument.lstrip('-').partition('=')
        file = value.partition(':')[0]
        if name == 'config' and file and not os.path.isfile(file):
            raise UserError(f'--config={file} is not a file; there are {sorted(_config_files())}')
        if name.startswith('config.'):
            check_key(name.removeprefix('config.'), known)


def _config_files() -> list[str]:
    return [path for path in glob.glob('configs/**/*.py', recursive=True) if '__' not in path]


def check_keys(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for a key that default_config does not have, with the nearest name."""
    known = flatten(default_config().to_dict())
    for key in flatten(config.to_dict()):
        check_key(key, known)


def check_key(key: str, known: dict) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f'did you mean {near[0]!r}?' if near else f'there are: {", ".join(sorted(known))}'
        raise UserError(f'the configuration has no setting {key!r}; {hint}')


def check_workdir(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> None:
    """Raises UserError unless `workdir` can be written and holds this very run or none."""
    directory = epath.Path(workdir)
    stored = read_config(directory)
    if stored is not None:
        here, there = flatten(config.to_dict()), flatten(stored.to_dict())
        for key in sorted(here.keys() | there.keys()):
            if here.get(key) != there.get(key) and not key.startswith(FREE_ON_RESUME):
                raise UserError(
                    f'{directory / CONFIG_FILE} is of another run: {key} is {there.get(key)!r} '
                    f'there and {here.get(key)!r} here; use another --workdir, or the same settings'
                )
    if '://' in os.fspath(workdir):
        return  # a bucket's permissions show at the first write
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise UserError(
            f'--workdir={directory} cannot be written ({error.strerror}); name another'
        ) from error


def get_dotted(config: ml_collections.ConfigDict, name: str):
    for part in name.split('.'):
        config = config[part]
    return config

