"""Labels computed from other features, against NumPy, on records as tfds writes them."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers import prepared

import input_pipeline
from resnet_rs.config.relations import LABELS
from resnet_rs.config.validation import check_settings
from resnet_rs.datasets import images, records
from resnet_rs.datasets.computed_labels import COMPUTED_LABELS
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError

RANDOM = np.random.default_rng(0)
COUNT = 40


def serialized(features, examples):
    """The records of `examples` in the features of a builder of tfds."""
    made = tfds.features.FeaturesDict({'image': tfds.features.Image()} | features)
    pixels = np.zeros((8, 8, 3), np.uint8)
    return [made.serialize_example(made.encode_example({'image': pixels} | e)) for e in examples]


def labels_of(name, found):
    split = SplitInfo('train', len(found), label_feature='', computed_label=name)
    return records._parsed(split, tf.constant(found))['label'].numpy()


def test_clevr():
    vector = tfds.features.Tensor(shape=(3,), dtype=np.float32)
    size = tfds.features.ClassLabel(names=['small', 'large'])
    features = {'objects': tfds.features.Sequence({'size': size, 'pixel_coords': vector})}
    examples = []
    for _ in range(COUNT):
        count = RANDOM.integers(3, 11)
        coordinates = RANDOM.uniform(6.5, 11) + RANDOM.uniform(0, 2, (count, 3))
        coordinates = coordinates.astype(np.float32)
        examples.append({'objects': {'size': [0] * count, 'pixel_coords': coordinates}})
    examples[0]['objects']['pixel_coords'][:, 2] = 8.5  # a bound belongs to the bin below it
    found = serialized(features, examples)
    counts = [len(each['objects']['size']) - 3 for each in examples]
    np.testing.assert_array_equal(labels_of('count_all', found), counts)
    nearest = [each['objects']['pixel_coords'][:, 2].min() for each in examples]
    expected = np.digitize(nearest, [8, 8.5, 9, 9.5, 10], right=True)
    assert expected[0] == 1 and len(set(expected)) > 3
    np.testing.assert_array_equal(labels_of('closest_object_distance', found), expected)


def test_kitti():
    vector = tfds.features.Tensor(shape=(3,), dtype=np.float32)
    kind = tfds.features.ClassLabel(num_classes=9)
    features = {'objects': tfds.features.Sequence({'type': kind, 'location': vector})}
    examples = []
    for _ in range(COUNT):
        count = RANDOM.integers(0, 4)
        location = RANDOM.uniform(2, 40, (count, 3)).astype(np.float32)
        kinds = RANDOM.integers(0, 6, count)
        examples.append({'objects': {'type': kinds, 'location': location}})
    nearest = [
        min([1000.0, *each['objects']['location'][each['objects']['type'] < 3, 2]])
        for each in examples
    ]
    expected = np.digitize(nearest, [8, 20, 999], right=True)
    assert set(expected) == {0, 1, 2, 3}
    found = labels_of('closest_vehicle_distance', serialized(features, examples))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    'name, feature, values, classes',
    [
        ('x_position', 'label_x_position', 32, 16),
        ('orientation', 'label_orientation', 40, 16),
        ('azimuth', 'label_azimuth', 18, 18),
        ('elevation', 'label_elevation', 9, 9),
    ],
)
def test_groups_of_neighbouring_values(name, feature, values, classes):
    features = {feature: tfds.features.ClassLabel(num_classes=values)}
    found = labels_of(name, serialized(features, [{feature: k} for k in range(values)]))
    np.testing.assert_array_equal(found, [k * classes // values for k in range(values)])
    assert len(COMPUTED_LABELS[name].class_names) == classes == found.max() + 1


class Dsprites(tfds.core.GeneratorBasedBuilder):
    """A few images of pixels 0 and 1, as tfds's dsprites has them."""

    VERSION = tfds.core.Version('2.0.0')
    name = 'dsprites'

    def _info(self):
        label = tfds.features.ClassLabel(num_classes=32)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {'image': tfds.features.Image(shape=(64, 64, 1)), 'label_x_position': label}
            )
        )

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for number in range(32):
            image = np.zeros((64, 64, 1), np.uint8)
            image[:, : 2 * number] = 1
            yield number, {'image': image, 'label_x_position': number}


def test_a_run_reads_a_computed_label_and_scaled_pixels(tmp_path):
    builder = Dsprites(data_dir=tmp_path, file_format='array_record')
    builder.download_and_prepare()
    config = prepared.small_config(batch_size=16)
    config.data.name, config.data.data_dir, config.data.label = (
        'dsprites',
        str(tmp_path),
        'x_position',
    )
    config.data.eval_split, config.data.eval_crop = 'train', 'squash'
    config.data.resize, config.model.num_classes = 'area', 16
    config.data.train_crop, config.data.flip = 'evaluation', False
    check_settings(config)
    info = find_dataset(config.data)
    assert info.num_classes == 16
    for batch in (
        next(iter(input_pipeline.eval_batches(config))),
        next(input_pipeline.train_batches(config)),
    ):
        filled = (batch['image'][:, 0, :, 0] > 127).sum(1)
        assert set(np.unique(batch['image'])) <= {0, 255}
        np.testing.assert_array_equal(batch['label'], filled // 2)
    config.data.label = 'azimuth'
    with pytest.raises(UserError, match="no feature 'label_azimuth', from which data.label='azim"):
        find_dataset(config.data)
    config.data.source, config.data.data_dir = 'image_folder', prepared.image_folder()
    with pytest.raises(UserError, match='is computed from features of a tfds set'):
        check_settings(config)


def test_the_settings_name_every_label():
    assert tuple(COMPUTED_LABELS) == LABELS


def test_squash_takes_the_whole_image():
    image = RANDOM.integers(0, 256, (12, 24, 3)).astype(np.uint8)
    config = prepared.small_config()
    config.data.eval_crop, config.data.resize = 'squash', 'area'
    encoded = tf.io.encode_png(image)
    found = images.evaluation_transform(config.data, 6)(encoded).numpy()
    expected = image.reshape(6, 2, 6, 4, 3).mean((1, 3))
    assert np.abs(found - expected).max() <= 0.5
    config.data.train_crop = 'evaluation'
    config.data.image_size = 6
    trained = images.training_transform(config.data)(encoded, tf.constant([1, 2])).numpy()
    np.testing.assert_array_equal(trained, found)
    config.data.image_size, config.data.frames = 16, 8
    config.model.name = 'resnet_3d_rs_50'
    with pytest.raises(UserError, match="data.eval_crop is 'squash', which is for images"):
        check_settings(config)
