"""The command that probes a network: its features, its rows, and wrong arguments."""

import argparse
import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.random_network import digits_config, write_network

import input_pipeline
from resnet_rs import probe
from resnet_rs.datasets.labels import read_labels
from resnet_rs.run import features
from resnet_rs.run.workdir import load_workdir
from resnet_rs.training.networks import normalise

pytestmark = pytest.mark.usefixtures('one_stage')


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp('network') / 'run')


def arguments_of(network, *more):
    return [f'--workdir={network}', '--train=train[:300]', '--test=validation[:100]', *more]


def test_features_are_the_pooled_ones_of_every_image_in_order(network):
    options = probe._parser().parse_args(arguments_of(network))
    images = features.find_splits(options)
    found = features.compute(options, images, pixels=8)
    config, model, variables = load_workdir(network, 'ema')
    config = digits_config()
    batch = next(
        iter(input_pipeline.eval_batches(config, split='validation[:100]', batch_size=100))
    )
    test, pixels = found['features'][1], found['pixels'][1]
    np.testing.assert_array_equal(test.labels, batch['label'])
    np.testing.assert_array_equal(read_labels(images[1].split, 'array_record'), batch['label'])
    pooled = jax.jit(lambda v, x: model.apply(v, x, False, output='pooled'))
    expected = pooled(variables, normalise(jnp.asarray(batch['image']), config))
    np.testing.assert_allclose(test.features, expected, rtol=1e-4, atol=1e-5)
    assert found['features'][0].features.shape[0] == 300
    squares = batch['image'].reshape(100, 8, 4, 8, 4, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(pixels.features, squares.reshape(100, -1), atol=1e-5)


def test_rows_of_the_command(network, tmp_path, capsys):
    file = tmp_path / 'probe.json'
    wanted = ['--probes', 'few_shot', 'neighbours', '--shots', '1', '5', f'--output={file}']
    probe.main(arguments_of(network, *wanted))
    shown = capsys.readouterr().out
    assert 'train[:300] and validation[:100] of digits' in shown and 'chance 10.00' in shown
    stored = json.loads(file.read_text())
    names = [(row['probe'], row['inputs']) for row in stored['rows']]
    assert names[:4] == [
        (f'ridge, {shots} per class', inputs)
        for inputs in ('features', 'pixels')
        for shots in (1, 5)
    ]
    assert names[4:] == [('nearest neighbours', 'features'), ('nearest neighbours', 'pixels')]
    for row in stored['rows']:
        assert 0 <= row['low'] <= row['top1'] <= row['high'] <= 1
    by_name = dict(zip(names, stored['rows'], strict=True))
    assert by_name['nearest neighbours', 'pixels']['top1'] > 0.7  # 3 neighbours: 96.7 % of 360


@pytest.mark.parametrize(
    'more, message',
    [
        (['--shots', '1', '29'], 'images in train[:300] besides those held out for validation'),
        (['--test=tset'], "has no split 'tset'"),
        (['--data=flowers'], 'dataset flowers is not prepared in'),
        (['--output=/none/file.json'], 'must be a new file in a directory that exists'),
    ],
)
def test_wrong_arguments_are_one_line_before_compiling(network, more, message, monkeypatch, capsys):
    monkeypatch.setattr(features, 'compute', lambda *arguments: pytest.fail('computed'))
    with pytest.raises(SystemExit) as stop:
        probe.main(arguments_of(network, *more))
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and message in error and error.startswith('error: ')


def test_images_without_one_class_are_told_before_computing(network, monkeypatch, capsys):
    """ImageNet-ReaL has sets of classes, and tfds labels the images of some test splits -1."""
    monkeypatch.setattr(features, 'compute', lambda *arguments: pytest.fail('computed'))
    options = probe._parser().parse_args(arguments_of(network))
    train, test = features.find_splits(options)
    sets = dataclasses.replace(
        test, split=dataclasses.replace(test.split, label_set_feature='real_label')
    )
    for wrong, images, message in (
        ('', (train, sets), r'digits has sets of labels \(real_label\), and a probe takes one'),
        (train.split.name, (train, test), r'train\[:300\] of digits has 300 images of 300 without'),
        (test.split.name, (train, test), 'without a label; name a labelled split with --test'),
    ):

        def labels_of(split, file_format, wrong=wrong):
            return np.full(split.num_examples, -1 if split.name == wrong else 3)

        monkeypatch.setattr(features, 'read_labels', labels_of)
        monkeypatch.setattr(features, 'find_splits', lambda options, images=images: images)
        with pytest.raises(SystemExit):
            probe.main(arguments_of(network))
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith('error: ') and re.search(message, error)


def test_an_interval_over_seeds_is_students(network):
    found = argparse.Namespace(
        predictions=np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]), chosen='l2 = 1'
    )
    row = probe._row('ridge', 'features', found, np.array([0, 1, 1, 1]))
    scores = np.array([1.0, 0.75, 0.5])
    half = 4.302652729911275 * scores.std(ddof=1) / 3**0.5  # t of 0.975 with 2 degrees of freedom
    assert row['top1'] == 0.75 and row['low'] == pytest.approx(max(0.75 - half, 0))
    assert row['seeds'] == 3
