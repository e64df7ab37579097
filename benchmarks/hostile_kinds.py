"""The files that hostile_files.py damages: how good ones are made, and who reads them."""

import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import shutil
import sys
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
# First of all: a benchmark is called input_pipeline.py too.
sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'tests' / 'convert')]

import resnet_rs  # noqa: E402, F401, I001  prepares the environment for TensorFlow
import foreign_weights  # noqa: E402
import hash_filled  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402
from PIL import Image  # noqa: E402

import input_pipeline  # noqa: E402
from resnet_rs import compare, data_check, preflight, results, run_log  # noqa: E402
from resnet_rs.checkpoint import Checkpoints, Run, TrainState  # noqa: E402
from resnet_rs.class_names import class_names  # noqa: E402
from resnet_rs.config import default_config  # noqa: E402
from resnet_rs.convert import __main__ as convert  # noqa: E402
from resnet_rs.convert import timm  # noqa: E402
from resnet_rs.convert.torch_file import read_torch_file  # noqa: E402
from resnet_rs.convert.weights import paths_of  # noqa: E402
from resnet_rs.convert.workdir import load_workdir  # noqa: E402
from resnet_rs.datasets import locate, prepare  # noqa: E402
from resnet_rs.datasets.images import evaluation_transform  # noqa: E402
from resnet_rs.errors import UserError  # noqa: E402
from resnet_rs.models import create_model  # noqa: E402
from resnet_rs.predict import read_image  # noqa: E402
from resnet_rs.stored_config import read_config, write_config  # noqa: E402

CLASSES = 10
IMAGE_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    command: who reads it, for the table.
    write: makes good files in a directory and returns those to damage.
    read: reads the directory as the command does; `file` is the damaged one.
    named: what a message has to name: the 'file', its 'prefix' without the suffix or a 'directory'
      above it, where that is what the command was given, or a 'setting'.
    """

    command: str
    write: Callable[[pathlib.Path], list[pathlib.Path]]
    read: Callable[[pathlib.Path, pathlib.Path], None]
    named: str = 'file'


def write_images(suffixes: tuple[str, ...], directory: pathlib.Path) -> list[pathlib.Path]:
    random = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 40 * 48 * 3).reshape(40, 48, 3) + random.normal(0, 9, (40, 48, 3))
    rgb = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
    forms = {
        'jpg': [(rgb, {}), (rgb, {'progressive': True}), (rgb.convert('L'), {}),
                (rgb.convert('CMYK'), {})],
        'png': [(rgb, {}), (rgb.convert('P'), {}), (rgb.convert('RGBA'), {}),
                (rgb.convert('L').convert('I;16'), {})],
        'webp': [(rgb, {}), (rgb, {'lossless': True}), (rgb.convert('RGBA'), {})],
        'gif': [(rgb.convert('P'), {}), (rgb.convert('L'), {'interlace': 0})],
        'bmp': [(rgb, {}), (rgb.convert('L'), {})],
    }
    files = []
    for suffix in suffixes:
        for number, (image, options) in enumerate(forms[suffix]):
            files.append(directory / f'{number}.{suffix}')
            image.save(files[-1], **options)
    for split in ('train', 'val'):
        (directory / split / 'a').mkdir(parents=True)
        shutil.copy(files[0], directory / split / 'a' / '0.jpg')
    return files


def read_as_image(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads it as predict does, then as an image of a folder to train or to evaluate on."""
    config = small_config()
    refused = None
    try:
        read_image(file, evaluation_transform(config.data, IMAGE_SIZE))
    except UserError as error:
        refused = error
    split = ('train', 'val')[file.stat().st_size % 2]
    place = directory / split / 'a' / '1.jpg'
    shutil.copy(file, place)
    config.data.source, config.data.data_dir = 'image_folder', str(directory)
    config.data.eval_split = 'val'
    try:
        read_split(config, split)
    except UserError as error:
        if str(place) not in str(error):
            raise
        refused = refused or UserError(str(error).replace(str(place), str(file)))
    finally:
        place.unlink()
    if refused:
        raise refused


def read_split(config, split: str) -> None:
    locate.find_prepared.cache_clear()
    locate._find_image_folder.cache_clear()
    if split == 'train':
        batches = input_pipeline.train_batches(config)
        for _ in range(3):
            next(batches)
    else:
        for _ in input_pipeline.eval_batches(config, split=split):
            pass


def small_config():
    config = default_config()
    config.batch_size = config.eval.batch_size = 2
    config.model.update({
        'name': 'resnet_14', 'num_classes': CLASSES, 'width_multiplier': 1 / 16,
    })
    config.data.update({
        'image_size': IMAGE_SIZE, 'augment': 'none', 'streams': 2, 'threads': 2,
        'shuffle_window': 4, 'name': 'small',
    })
    return config


def write_records(file_format: str, directory: pathlib.Path) -> list[pathlib.Path]:
    """A prepared set 'small' of two training files and one to evaluate on, of 3 images each."""
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    target = directory / 'small' / '1.0.0'
    target.mkdir(parents=True)
    encoded = io.BytesIO()
    Image.fromarray(np.arange(40 * 40, dtype=np.uint8).reshape(40, 40)).save(encoded, 'PNG')
    splits, files = [], []
    for split, count in (('train', 2), ('validation', 1)):
        for number in range(count):
            file = target / f'small-{split}.{file_format}-{number:05d}-of-{count:05d}'
            is_array_record = file_format == 'array_record'
            writer = (ArrayRecordWriter(str(file), 'group_size:1') if is_array_record
                      else tf.io.TFRecordWriter(str(file)))
            for label in range(3):
                writer.write(tf.train.Example(features=tf.train.Features(feature={
                    'image': tf.train.Feature(bytes_list={'value': [encoded.getvalue()]}),
                    'label': tf.train.Feature(int64_list={'value': [label]}),
                })).SerializeToString())
            writer.close()
            files.append(file)
        splits.append(tfds.core.SplitInfo(
            name=split, shard_lengths=[3] * count, num_bytes=0,
            filename_template=tfds.core.ShardedFileTemplate(
                target, dataset_name='small', split=split, filetype_suffix=file_format),
        ))
    tfds.folder_dataset.write_metadata(
        data_dir=target, check_data=False, split_infos=splits,
        features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(encoding_format='png'),
            'label': tfds.features.ClassLabel(names=[f'c{i}' for i in range(CLASSES)]),
        }),
    )
    return files


def read_records(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads it as --mode=check does, then as training and evaluation do."""
    config = small_config()
    config.data.data_dir = str(directory)
    split = 'train' if 'train' in file.name else 'validation'
    refused = None
    try:
        locate.find_prepared.cache_clear()
        info = input_pipeline.dataset_info(config)
        data_check.check_split(info, info.split(split))
    except UserError as error:
        refused = error
    read_split(config, split)
    if refused:
        raise refused


def write_metadata(directory: pathlib.Path) -> list[pathlib.Path]:
    target = write_records('tfrecord', directory)[0].parent
    return [target / name for name in ('dataset_info.json', 'features.json', 'label.labels.txt')]


def read_metadata(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Looks for the dataset as each command does, and as prepare does where the set is there."""
    config = small_config()
    config.data.data_dir = str(directory)
    locate.find_prepared.cache_clear()
    with contextlib.redirect_stdout(io.StringIO()):
        prepare.prepare('small', data_dir=str(directory))
    preflight.check_evaluation(config)


@functools.cache
def timm_state() -> dict[str, np.ndarray]:
    model = create_model(
        'resnet_rs_14', num_classes=CLASSES, width_multiplier=1 / 16, dtype='float32')
    variables = hash_filled.hash_filled_variables(model, 'float32')
    return {
        timm.timm_key(path, 'deep_strided', 'average_pool'):
            np.ascontiguousarray(timm.to_timm_layout(path, array))
        for path, array in paths_of(variables).items()
    }


def write_safetensors(directory: pathlib.Path) -> list[pathlib.Path]:
    safetensors.numpy.save_file(timm_state(), directory / 'weights.safetensors')
    return [directory / 'weights.safetensors']


def write_keras(directory: pathlib.Path) -> list[pathlib.Path]:
    foreign_weights.write_keras(directory / 'weights.h5', timm_state())
    return [directory / 'weights.h5']


def write_checkpoint(tensors_of, directory: pathlib.Path) -> list[pathlib.Path]:
    foreign_weights.write_checkpoint(directory / 'model.ckpt', tensors_of(timm_state()))
    return [directory / f'model.ckpt.{suffix}' for suffix in ('index', 'data-00000-of-00001')]


def read_weights(source: str, directory: pathlib.Path, file: pathlib.Path) -> None:
    path = directory / 'model.ckpt' if file.name.startswith('model.ckpt') else file
    options = ['--weights=raw'] if source == 'tf1' else []
    try:
        convert.main([
            f'--source={source}', str(path), f'--output={directory / "out"}',
            f'--num_classes={CLASSES}', *options,
        ])
    finally:
        shutil.rmtree(directory / 'out', ignore_errors=True)


def write_torch(form: str, directory: pathlib.Path) -> list[pathlib.Path]:
    """Recorded from torch (tests/convert/data), which need not be installed here."""
    recorded = ROOT / 'tests' / 'convert' / 'data' / f'torch_{form}.pth'
    return [shutil.copy(recorded, directory / recorded.name)]


def read_torch(directory: pathlib.Path, file: pathlib.Path) -> None:
    """The reader of convert --source=timm; the recorded files hold no whole network."""
    with contextlib.chdir(directory):
        read_torch_file(file)


def write_workdir(directory: pathlib.Path) -> None:
    """A finished run: configuration, checkpoint, metrics, environment and predictions."""
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
        seed=np.int32(0), step=np.int32(7), variables=variables, ema=variables,
        opt_state=(momentum,), window=window,
    )
    scores = {name: 0.5 for name in results.SCORES}
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(state, Run(0, 1.5, 2), scores)
    time = {'seconds_per_step': 0.5, 'memory_bytes': 10**9, 'skipped_images': 0}
    lines = [{'step': step, 'kind': 'train', 'loss': 2.5, 'top1': 0.1, 'time': time}
             for step in (2, 4, 6)]
    lines.append({'step': 7, 'kind': 'eval', **scores, 'time': {'elapsed_seconds': 1.5}})
    (directory / run_log.METRICS_FILE).write_text(''.join(json.dumps(x) + '\n' for x in lines))
    (directory / 'environment.json').write_text(json.dumps(run_log.describe_environment()))
    (directory / 'class_names.txt').write_text(''.join(f'c{i}\n' for i in range(CLASSES)))
    right = np.arange(9) % 2 == 0
    table = {'index': np.arange(9), 'label': np.arange(9) % CLASSES}
    for weights in ('raw', 'ema'):
        table |= {f'{weights}_prediction': np.arange(9), f'{weights}_top1': right,
                  f'{weights}_top5': right, f'{weights}_loss': np.ones(9, np.float32)}
    np.savez(directory / run_log.PREDICTIONS_FILE, **table)


def load_model(config):
    from resnet_rs.steps import model_of

    return model_of(config, dtype='float32', batch_norm_group_size=None)


def write_run_file(name: str, directory: pathlib.Path) -> list[pathlib.Path]:
    write_workdir(directory)
    return [directory / name]


def read_metrics(directory: pathlib.Path, file: pathlib.Path) -> None:
    """As results, compare and a resumed run do."""
    results.row_of(directory)
    compare.draw_curves([str(directory)])
    kept = [line for line in run_log.read_metrics(directory) if line['step'] <= 4]
    json.dumps(kept)


def read_run_config(directory: pathlib.Path, file: pathlib.Path) -> None:
    """As predict, results, compare, --mode=eval and a resumed run do."""
    load_workdir(directory, 'ema')
    results.row_of(directory)
    compare.compare(directory, directory)
    config = read_config(directory)
    locate.find_prepared.cache_clear()
    preflight.check_evaluation(config)
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
    preflight.check_class_order(input_pipeline.dataset_info(config), directory)


def write_run_checkpoint(directory: pathlib.Path) -> list[pathlib.Path]:
    """Every file of the checkpoint; in the large ones the first 100 KiB are changed."""
    write_workdir(directory)
    return sorted(file for file in (directory / 'checkpoints').rglob('*') if file.is_file())


def read_checkpoint(directory: pathlib.Path, file: pathlib.Path) -> None:
    """As predict, --mode=eval, fine-tuning and a resumed run do."""
    config = small_config()
    model = load_model(config)
    load_workdir(directory, 'ema', 'best')
    with Checkpoints(directory) as checkpoints:
        step = checkpoints.steps()[-1]
        checkpoints.restore(step, abstract_state(model))


@functools.cache
def abstract_state(model):
    from resnet_rs.models import init_variables

    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def on_device(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    variables = jax.tree.map(on_device, jax.eval_shape(lambda: init_variables(model, 64)))
    number, real = (on_device(jax.ShapeDtypeStruct((), kind)) for kind in (np.int32, np.float32))
    return TrainState(
        seed=number, step=number, variables=variables, ema=variables,
        opt_state=(variables['params'],), window={'loss': real, 'steps': number},
    )


def write_results(directory: pathlib.Path) -> list[pathlib.Path]:
    write_workdir(directory / 'run')
    written = results.write_tables([results.row_of(directory / 'run')], directory)
    return [path for path in written if path.suffix in ('.csv', '.parquet')]


def read_results(directory: pathlib.Path, file: pathlib.Path) -> None:
    results.markdown(results.merge([results.read_table(file)]))


KINDS = {
    'JPEG': Kind('predict; training and evaluation on a folder',
                 functools.partial(write_images, ('jpg',)), read_as_image),
    'PNG': Kind('the same', functools.partial(write_images, ('png',)), read_as_image),
    'WebP, GIF, BMP': Kind('the same', functools.partial(write_images, ('webp', 'gif', 'bmp')),
                           read_as_image),
    'TFRecord': Kind('--mode=check; training and evaluation',
                     functools.partial(write_records, 'tfrecord'), read_records),
    'array_record': Kind('the same', functools.partial(write_records, 'array_record'),
                         read_records),
    'dataset metadata': Kind('prepare, main.py', write_metadata, read_metadata, 'directory'),
    '.safetensors': Kind('convert', write_safetensors, functools.partial(read_weights, 'timm')),
    '.h5': Kind('convert', write_keras, functools.partial(read_weights, 'keras')),
    '.pth, zip': Kind('convert', functools.partial(write_torch, 'zip'), read_torch),
    '.pth, wrapped': Kind('convert', functools.partial(write_torch, 'wrapped'), read_torch),
    '.pth, legacy': Kind('convert', functools.partial(write_torch, 'legacy'), read_torch),
    'tf1 checkpoint': Kind(
        'convert', functools.partial(write_checkpoint, foreign_weights.tf1_tensors),
        functools.partial(read_weights, 'tf1'), 'prefix'),
    'model_garden checkpoint': Kind(
        'convert', functools.partial(write_checkpoint, foreign_weights.garden_tensors),
        functools.partial(read_weights, 'model_garden'), 'prefix'),
    'config.json': Kind('predict, results, compare, main.py',
                        functools.partial(write_run_file, 'config.json'), read_run_config,
                        'setting'),
    'metrics.jsonl': Kind('results, compare, a resumed run',
                          functools.partial(write_run_file, 'metrics.jsonl'), read_metrics),
    'environment.json': Kind('results', functools.partial(write_run_file, 'environment.json'),
                             read_environment),
    'predictions.npz': Kind('compare', functools.partial(write_run_file, 'predictions.npz'),
                            read_predictions),
    'class_names.txt': Kind('predict, --mode=eval',
                            functools.partial(write_run_file, 'class_names.txt'),
                            read_class_names),
    'results.csv, .parquet': Kind('results', write_results, read_results),
    'checkpoint': Kind('predict, --mode=eval, a resumed run', write_run_checkpoint,
                       read_checkpoint, 'directory'),
}
