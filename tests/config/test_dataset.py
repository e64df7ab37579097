"""The name of a run's data."""

import pytest

from resnet_rs.config import default_config
from resnet_rs.config.dataset import dataset_name


@pytest.mark.parametrize(
    'source, data_dir, name',
    [
        ('tfds', '/data', 'imagenet2012'),
        ('image_folder', '/data/flowers/', 'flowers'),
        ('video_folder', 'gs://bucket/videos', 'videos'),
        ('sequence_examples', 'kinetics400', 'kinetics400'),
    ],
)
def test_a_folder_is_not_called_by_the_default_of_data_name(source, data_dir, name):
    config = default_config()
    config.data.update({'source': source, 'data_dir': data_dir, 'name': 'imagenet2012'})
    assert dataset_name(config) == name
