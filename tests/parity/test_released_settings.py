"""The rows of configs/resnet_rs.py and the defaults against the authors' released settings.

released_settings.csv names the files. Cosine, its warm-up and plain momentum are from TF Model
Garden, of whose recipe the authors' trainer has no cosine.
"""

import csv
import pathlib

import pytest

from configs import resnet_rs
from resnet_rs.config.durations import to_steps
from resnet_rs.models import create_model


def released():
    text = pathlib.Path(__file__).with_name('released_settings.csv').read_text()
    lines = [line for line in text.splitlines() if not line.startswith('#')]
    rows = csv.DictReader(lines)
    return {f'{row["resnet_depth"]}@{row["image_size"]}': row for row in rows}


RELEASED = released()


def test_rows_are_the_released_ones():
    assert set(resnet_rs.TABLE) == set(RELEASED) and len(RELEASED) == 11


@pytest.mark.parametrize('row', RELEASED)
def test_settings_of_a_row(row):
    text = RELEASED[row]
    wanted = {name: float(value or 0) for name, value in text.items() if name != 'augment_name'}
    config = resnet_rs.get_config(row)
    model, data, optimizer = config.model, config.data, config.optimizer
    assert model.name == f'resnet_rs_{text["resnet_depth"]}'
    assert data.image_size == wanted['image_size']
    assert model.dropout_rate == wanted['dropout_rate']
    assert model.stochastic_depth_rate == wanted['drop_connect_rate']
    assert model.batch_norm_momentum == wanted['bn_momentum']
    assert create_model(model.name).architecture.squeeze_excite_ratio == wanted['se_ratio']
    assert data.augment == text['augment_name']
    assert data.randaugment_layers == wanted['randaug_num_layers']
    assert data.randaugment_magnitude == wanted['randaug_magnitude']
    assert optimizer.momentum == wanted['momentum']
    assert optimizer.weight_decay == wanted['weight_decay']
    assert optimizer.label_smoothing == wanted['label_smoothing']
    assert config.batch_size == wanted['train_batch_size']
    assert optimizer.learning_rate == pytest.approx(wanted['base_learning_rate'])
    assert config.ema.decay == wanted['moving_average_decay']
    sizes = dict(batch_size=config.batch_size, examples_per_epoch=int(wanted['num_train_images']))
    assert to_steps(config.duration, **sizes) == wanted['train_steps']
    # Not in those files:
    assert data.resize == 'bicubic_tf1' and data.eval_crop == 'padding 32'
    assert model.batch_norm_group_size == 0
    assert (optimizer.nesterov, optimizer.schedule) == (False, 'cosine')
    assert optimizer.weight_decay_on == 'kernels_and_biases'
    assert not optimizer.gradient_clip_norm
    assert to_steps(optimizer.warmup, **sizes) == 1_564
