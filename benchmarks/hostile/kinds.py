"""The kinds of files that are damaged."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

from helpers import foreign_weights

from hostile import data, runs, weights


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    command: its readers, for the table.
    write: makes good files in a directory and returns those to damage.
    read: reads the directory as the command does; `file` is the damaged one.
    named: what a message must name: the 'file', its 'prefix' without the suffix, a 'directory'
      above it, if that is the command's argument, or a 'setting'.
    """

    command: str
    write: Callable[[pathlib.Path], list[pathlib.Path]]
    read: Callable[[pathlib.Path, pathlib.Path], None]
    named: str = 'file'


KINDS = {
    'JPEG': Kind(
        'predict; training and evaluation on a folder',
        functools.partial(data.write_images, ('jpg',)),
        data.read_as_image,
    ),
    'PNG': Kind('the same', functools.partial(data.write_images, ('png',)), data.read_as_image),
    'WebP, GIF, BMP': Kind(
        'the same', functools.partial(data.write_images, ('webp', 'gif', 'bmp')), data.read_as_image
    ),
    'TFRecord': Kind(
        '--mode=check; training and evaluation',
        functools.partial(data.write_records, 'tfrecord'),
        data.read_records,
    ),
    'array_record': Kind(
        'the same', functools.partial(data.write_records, 'array_record'), data.read_records
    ),
    'dataset metadata': Kind(
        'prepare, main.py', data.write_metadata, data.read_metadata, 'directory'
    ),
    '.safetensors': Kind(
        'convert', weights.write_safetensors, functools.partial(weights.read_weights, 'timm')
    ),
    '.h5': Kind('convert', weights.write_keras, functools.partial(weights.read_weights, 'keras')),
    '.pth, zip': Kind('convert', functools.partial(weights.write_torch, 'zip'), weights.read_torch),
    '.pth, wrapped': Kind(
        'convert', functools.partial(weights.write_torch, 'wrapped'), weights.read_torch
    ),
    '.pth, legacy': Kind(
        'convert', functools.partial(weights.write_torch, 'legacy'), weights.read_torch
    ),
    'tf1 checkpoint': Kind(
        'convert',
        functools.partial(weights.write_checkpoint, foreign_weights.tf1_tensors),
        functools.partial(weights.read_weights, 'tf1'),
        'prefix',
    ),
    'model_garden checkpoint': Kind(
        'convert',
        functools.partial(weights.write_checkpoint, foreign_weights.garden_tensors),
        functools.partial(weights.read_weights, 'model_garden'),
        'prefix',
    ),
    'config.json': Kind(
        'predict, results, compare, main.py',
        functools.partial(runs.write_run_file, 'config.json'),
        runs.read_run_config,
        'setting',
    ),
    'metrics.jsonl': Kind(
        'results, compare, a resumed run',
        functools.partial(runs.write_run_file, 'metrics.jsonl'),
        runs.read_metrics,
    ),
    'environment.json': Kind(
        'results', functools.partial(runs.write_run_file, 'environment.json'), runs.read_environment
    ),
    'predictions.npz': Kind(
        'compare', functools.partial(runs.write_run_file, 'predictions.npz'), runs.read_predictions
    ),
    'class_names.txt': Kind(
        'predict, --mode=eval',
        functools.partial(runs.write_run_file, 'class_names.txt'),
        runs.read_class_names,
    ),
    'results.csv, .parquet': Kind('results', runs.write_results, runs.read_results),
    'checkpoint': Kind(
        'predict, --mode=eval, a resumed run',
        runs.write_run_checkpoint,
        runs.read_checkpoint,
        'directory',
    ),
}
