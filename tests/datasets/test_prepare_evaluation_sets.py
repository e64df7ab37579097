"""ImageNet-V2 and ImageNet-ReaL, built by tfds' own builders from tiny downloads."""

import json
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers import prepared
from helpers.imagenet_archives import picture

import input_pipeline
from resnet_rs.config import default_config
from resnet_rs.datasets import locate
from resnet_rs.datasets.prepare import prepare
from resnet_rs.models import init_variables
from resnet_rs.run import class_names, preflight
from resnet_rs.training.evaluation import evaluate
from resnet_rs.training.sharding import create_mesh
from resnet_rs.training.steps import create_eval_step, model_of
from resnet_rs.utils.errors import UserError
from train_lib import evaluate_split

CLASSES_V2 = (0, 1, 2, 10, 100, 999)


def real_labels():
    """Returns i % 4 right classes for the i-th validation image, the j-th of them 7 i + 13 j."""
    return [[7 * i + 13 * j for j in range(i % 4)] for i in range(prepared.EVAL_EXAMPLES)]


@pytest.fixture(scope='module')
def real_config(tmp_path_factory):
    directory = tmp_path_factory.mktemp('real')
    (directory / 'real.json').write_text(json.dumps(real_labels()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tfds.download.DownloadManager, 'download', lambda self, url: directory / 'real.json'
        )
        prepare('imagenet2012_real', data_dir=str(directory), manual_dir=str(prepared.archives()))
    return config('imagenet2012_real', directory, 'validation')


@pytest.fixture(scope='module')
def v2_config(tmp_path_factory):
    directory = tmp_path_factory.mktemp('v2')
    random = np.random.default_rng(0)
    for label in CLASSES_V2:
        folder = directory / 'files' / 'imagenetv2-matched-frequency-format-val' / str(label)
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / f'{number}.jpeg').write_bytes(picture(label, number, 40, random))
    name = 'imagenet_v2/matched-frequency'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tfds.download.DownloadManager,
            'download_and_extract',
            lambda self, url: str(directory / 'files'),
        )
        prepare(name, data_dir=str(directory))
    return config(name, directory, 'test')


def config(name, directory, split):
    config = default_config()
    config.data.name, config.data.data_dir, config.data.eval_split = name, str(directory), split
    config.data.image_size = 32
    config.eval.batch_size = 8
    config.model.name = 'resnet_rs_14'
    config.model.width_multiplier = 0.25
    config.model.dtype = 'float32'
    return config


def original_labels(count):
    """Returns the labels in tfds of the first validation images, and their places in the split."""
    synsets = tfds.core.tfds_path('datasets/imagenet2012/labels.txt').read_text().split()
    lines = tfds.core.tfds_path('datasets/imagenet2012/validation_labels.txt').read_text().split()
    return [synsets.index(line) for line in lines[:count]]


def rows(batches):
    parts = [batch for batch in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_real_has_sets_of_labels_and_leaves_out_images_without(real_config):
    batches = input_pipeline.eval_batches(real_config)
    table = rows(batches)
    assert table['label_set'].shape == (32, 1000) and table['label_set'].dtype == bool
    found = sorted(
        (int(label), tuple(np.flatnonzero(right).tolist()), float(mask))
        for label, right, mask, index in zip(
            table['label'], table['label_set'], table['mask'], table['index'], strict=True
        )
        if index >= 0
    )
    wanted = sorted(
        (label, tuple(right), float(bool(right)))
        for label, right in zip(original_labels(29), real_labels(), strict=True)
    )
    assert found == wanted
    assert batches.unlabelled_images == 8 and batches.corrupt_images == 0  # i % 4 == 0
    assert not table['label_set'][table['index'] < 0].any()


@pytest.mark.usefixtures('one_stage')
def test_real_is_scored_by_sets_and_every_labelled_image_is_counted(real_config):
    mesh = create_mesh()
    model = model_of(real_config, batch_norm_group_size=None)
    variables = init_variables(model, 32)
    eval_step = create_eval_step(real_config, model, mesh)
    weights = {'raw': variables, 'ema': variables}
    evaluation = evaluate_split(real_config, eval_step, weights, mesh)
    assert evaluation.examples == 29 - 8
    batch = rows(input_pipeline.eval_batches(real_config))
    counted = batch['mask'] > 0
    mean, std = np.array(real_config.data.mean_rgb), np.array(real_config.data.std_rgb)
    images = ((batch['image'][counted] - mean) / std).astype(np.float32)
    logits = jax.jit(model.apply, static_argnums=2)(variables, images, False)
    logits = np.asarray(logits, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = batch['label_set'][counted]
    best = np.argsort(-logits, axis=1)
    in_set = np.take_along_axis(right, best, 1)
    assert evaluation.metrics['raw_top1'] == pytest.approx(in_set[:, 0].mean())
    assert evaluation.metrics['raw_top5'] == pytest.approx(in_set[:, :5].any(1).mean())
    loss = -np.log((probabilities * right).sum(1)).mean()
    assert evaluation.metrics['raw_loss'] == pytest.approx(loss, rel=1e-4)
    with pytest.raises(RuntimeError, match='counted 21 examples.*instead of 29'):
        evaluate(eval_step, weights, input_pipeline.eval_batches(real_config), lambda: 29, mesh)


def test_a_right_class_of_a_set_counts(real_config):
    """A network that always says class c is right for exactly the sets that hold c."""

    def eval_metrics(favourite):
        class Constant:
            architecture = None

            def apply(self, variables, images, train):
                logits = jax.numpy.zeros((len(images), 1000))
                return logits.at[:, favourite].set(5.0)

        mesh = create_mesh(jax.devices()[:1])
        eval_step = create_eval_step(real_config, Constant(), mesh)
        weights = {'raw': {}, 'ema': {}}
        return evaluate_split(real_config, eval_step, weights, mesh).metrics

    for favourite in (7, 7 * 2 + 13, 999):
        expected = sum(favourite in right for right in real_labels()) / 21
        assert eval_metrics(favourite)['ema_top1'] == pytest.approx(expected)
    assert sum(7 in right for right in real_labels()) >= 1


def test_real_on_several_processes(real_config):
    parts = [
        input_pipeline.eval_batches(real_config, process_index=index, process_count=2)
        for index in range(2)
    ]
    tables = [rows(part) for part in parts]
    assert sum(table['mask'].sum() for table in tables) == 21
    assert sum(part.unlabelled_images for part in parts) == 8


def test_real_cannot_be_trained_on(real_config):
    training = real_config.copy_and_resolve_references()
    training.data.train_split = 'validation'
    with pytest.raises(UserError, match='imagenet2012_real has sets of labels'):
        preflight.check_config(training, 'unused')


def test_v2_has_the_labels_of_imagenet(v2_config):
    info = preflight.check_dataset(v2_config)
    assert info.num_classes == 1000 and info.class_names[:2] == ('n01440764', 'n01443537')
    table = rows(input_pipeline.eval_batches(v2_config))
    assert sorted(table['label'][table['mask'] > 0].tolist()) == sorted(CLASSES_V2 * 2)
    with pytest.raises(UserError, match="no split 'train'"):
        preflight.check_config(v2_config, 'unused')


def test_the_default_configuration_is_found(v2_config, capsys):
    prepare('imagenet_v2', data_dir=v2_config.data.data_dir)
    assert 'imagenet_v2/matched-frequency:3.0.0 was already prepared' in capsys.readouterr().out


def test_numbered_folders_are_in_the_order_of_their_numbers(v2_config, tmp_path):
    files = locate.as_path(v2_config.data.data_dir) / 'files'
    shutil.copytree(files / 'imagenetv2-matched-frequency-format-val', tmp_path / 'test')
    folder = v2_config.copy_and_resolve_references()
    folder.data.source, folder.data.data_dir = 'image_folder', str(tmp_path)
    info = locate.find_dataset(folder.data)
    assert info.class_names == tuple(map(str, CLASSES_V2))
    assert info.split('test').images[-1].endswith('test/999/1.jpeg')


def test_another_order_of_classes_is_refused(v2_config, tmp_path):
    info = locate.find_dataset(v2_config.data)
    names = list(info.class_names)
    (tmp_path / 'class_names.txt').write_text('\n'.join(names) + '\n')
    class_names.check_class_order(info, tmp_path)
    names[3], names[4] = names[4], names[3]
    (tmp_path / 'class_names.txt').write_text('\n'.join(names) + '\n')
    message = f'class 3 is {names[3]!r} .*but {names[4]!r} in imagenet_v2'
    with pytest.raises(UserError, match=message):
        class_names.check_class_order(info, tmp_path)
    (tmp_path / 'class_names.txt').write_text('\n'.join(map(str, range(1000))) + '\n')
    class_names.check_class_order(info, tmp_path)
