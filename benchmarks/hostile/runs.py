"""The files of a run: writers of good ones, and their readers."""

import functools
import json
import pathlib

import jax
import numpy as np
from helpers import hash_filled

import input_pipeline
from hostile.data import CLASSES, small_config, write_records
from resnet_rs import compare
from resnet_rs.config.stored import read_config, write_config
from resnet_rs.datasets import locate
from resnet_rs.datasets.images import evaluation_transform
from resnet_rs.models import init_variables
from resnet_rs.run import preflight, run_log
from resnet_rs.run.checkpoint import Checkpoints, RunMetadata
from resnet_rs.run.class_names import check_class_order, class_names
from resnet_rs.run.workdir import load_workdir
from resnet_rs.sweep import results
from resnet_rs.training.state import TrainState
from resnet_rs.training.steps import model_of
from resnet_rs.utils.environment import describe_environment


def write_workdir(directory: pathlib.Path) -> None:
    """Writes a finished run: configuration, checkpoint, metrics, environment and predictions."""
    config = small_config()
    data = directory / 'data'
    write_records('tfrecord', data)
    config.data.data_dir = str(data)
    write_config(directory, config)
    model = load_model(config)
    variables = jax.tree.map(np.asarray, hash_filled.hash_filled_variables(model, 'float32'))
    momentum = jax.tree.map(np.zeros_like, variables['params'])
    window = {'loss': np.float32(0), 'steps': np.int32(0)}
    state = TrainState(
        seed=np.int32(0),
        step=np.int32(7),
        variables=variables,
        ema=variables,
        opt_state=(momentum,),
        window=window,
    )
    scores = {name: 0.5 for name in results.SCORES}
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(state, RunMetadata(1.5, 2), scores)
    time = {'seconds_per_step': 0.5, 'memory_bytes': 10**9, 'skipped_images': 0}
    lines = [
        {'step': step, 'kind': 'train', 'loss': 2.5, 'top1': 0.1, 'time': time}
        for step in (2, 4, 6)
    ]
    lines.append({'step': 7, 'kind': 'eval', **scores, 'time': {'elapsed_seconds': 1.5}})
    (directory / run_log.METRICS_FILE).write_text(''.join(json.dumps(x) + '\n' for x in lines))
    (directory / 'environment.json').write_text(json.dumps(describe_environment()))
    (directory / 'class_names.txt').write_text(''.join(f'c{i}\n' for i in range(CLASSES)))
    right = np.arange(9) % 2 == 0
    table = {'index': np.arange(9), 'label': np.arange(9) % CLASSES}
    for weights in ('raw', 'ema'):
        table |= {
            f'{weights}_prediction': np.arange(9),
            f'{weights}_top1': right,
            f'{weights}_top5': right,
            f'{weights}_loss': np.ones(9, np.float32),
        }
    np.savez(directory / run_log.PREDICTIONS_FILE, **table)


def load_model(config):
    return model_of(config, dtype='float32', batch_norm_group_size=None)


def write_run_file(name: str, directory: pathlib.Path) -> list[pathlib.Path]:
    write_workdir(directory)
    return [directory / name]


def read_metrics(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads metrics.jsonl as results and a resumed run do."""
    results.row_of(directory)
    kept = [line for line in run_log.read_metrics(directory) if line['step'] <= 4]
    json.dumps(kept)


def read_run_config(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads config.json as predict, results, compare, --mode=eval and a resumed run do."""
    load_workdir(directory, 'ema')
    results.row_of(directory)
    compare.compare(directory, directory)
    config = read_config(directory)
    locate.find_prepared.cache_clear()
    preflight.check_evaluation(config, directory)
    preflight.check_workdir(small_config(), directory)
    evaluation_transform(config.data, config.data.image_size)


def read_environment(directory: pathlib.Path, file: pathlib.Path) -> None:
    results.row_of(directory)


def read_predictions(directory: pathlib.Path, file: pathlib.Path) -> None:
    compare.compare(directory, directory)


def read_class_names(directory: pathlib.Path, file: pathlib.Path) -> None:
    class_names(directory, CLASSES)
    config = small_config()
    config.data.data_dir = str(directory / 'data')
    check_class_order(input_pipeline.dataset_info(config), directory)


def write_run_checkpoint(directory: pathlib.Path) -> list[pathlib.Path]:
    """Writes a checkpoint; all its files are damaged, large ones in their first 100 KiB."""
    write_workdir(directory)
    return sorted(file for file in (directory / 'checkpoints').rglob('*') if file.is_file())


def read_checkpoint(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads a checkpoint as predict, --mode=eval, fine-tuning and a resumed run do."""
    config = small_config()
    model = load_model(config)
    load_workdir(directory, 'ema', 'best')
    with Checkpoints(directory) as checkpoints:
        step = checkpoints.steps()[-1]
        checkpoints.restore(step, abstract_state(model), config.seed)


@functools.cache
def abstract_state(model):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def on_device(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    variables = jax.tree.map(on_device, jax.eval_shape(lambda: init_variables(model, 64)))
    number, real = (on_device(jax.ShapeDtypeStruct((), kind)) for kind in (np.int32, np.float32))
    return TrainState(
        seed=number,
        step=number,
        variables=variables,
        ema=variables,
        opt_state=(variables['params'],),
        window={'loss': real, 'steps': number},
    )


def write_results(directory: pathlib.Path) -> list[pathlib.Path]:
    write_workdir(directory / 'run')
    written = results.write_tables([results.row_of(directory / 'run')], directory)
    return [path for path in written if path.suffix in ('.csv', '.parquet')]


def read_results(directory: pathlib.Path, file: pathlib.Path) -> None:
    results.markdown(results.merge([results.read_table(file)]))
