"""The rows of configs/efficientnet.py against the authors' released settings.

From tensorflow/tpu, models/official/efficientnet (efficientnet_builder.py, main.py, utils.py) and
its README, which says which results are of RandAugment and with which magnitude.
"""

import pytest

from configs import efficientnet
from resnet_rs.config.validation import check_settings
from resnet_rs.utils.errors import UserError

# Resolution, dropout, magnitude of RandAugment (0: AutoAugment).
RELEASED = {
    'b0': (224, 0.2, 0),
    'b1': (240, 0.2, 0),
    'b2': (260, 0.3, 0),
    'b3': (300, 0.3, 0),
    'b4': (380, 0.4, 0),
    'b5': (456, 0.4, 17),
    'b6': (528, 0.5, 0),
    'b7': (600, 0.5, 28),
}


@pytest.mark.parametrize('row', RELEASED)
def test_settings_of_a_row(row):
    config = efficientnet.get_config(row)
    check_settings(config)
    image_size, dropout_rate, magnitude = RELEASED[row]
    assert config.model.name == f'efficientnet_{row}'
    assert (config.data.image_size, config.model.dropout_rate) == (image_size, dropout_rate)
    if magnitude:
        assert config.data.augment == 'randaugment'
        assert (config.data.randaugment_layers, config.data.randaugment_magnitude) == (2, magnitude)
    else:
        assert config.data.augment == 'autoaugment_v0'
    model, optimizer = config.model, config.optimizer
    assert model.stochastic_depth_rate == 0.2  # survival of 0.8
    assert (model.batch_norm_momentum, model.batch_norm_epsilon) == (0.99, 1e-3)
    assert model.padding == 'same'
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov) == ('rmsprop', 0.9, False)
    assert (optimizer.rmsprop_decay, optimizer.rmsprop_epsilon) == (0.9, 1e-3)
    assert optimizer.learning_rate * config.batch_size / 256 == pytest.approx(0.256)
    assert (optimizer.schedule, optimizer.decay_every, optimizer.decay_factor) == (
        'exponential',
        '2.4 epochs',
        0.97,
    )
    assert (optimizer.warmup, config.duration) == ('5 epochs', '350 epochs')
    assert (optimizer.weight_decay, optimizer.weight_decay_on) == (1e-5, 'kernels_and_biases')
    assert (optimizer.label_smoothing, config.ema.decay) == (0.1, 0.9999)
    assert config.data.resize == 'bicubic_tf1' and config.data.eval_crop == 'padding 32'


@pytest.mark.parametrize('row, magnitude', (('b2@224', 10), ('b4@320', 15), ('b7@448', 20)))
def test_efficientnet_rs(row, magnitude):
    """Section 7.2 of the ResNet-RS paper: the resolution and RandAugment's magnitude alone."""
    config = efficientnet.get_config(row)
    assert config.data.image_size == int(row.partition('@')[2])
    assert config.data.augment == 'randaugment'
    assert config.data.randaugment_magnitude == magnitude
    original = efficientnet.get_config(row.partition('@')[0])
    assert config.model == original.model and config.optimizer == original.optimizer


@pytest.mark.parametrize('row', ('b9', 'b0@', 'b0@two', ''))
def test_rows_that_are_not_there(row):
    with pytest.raises(UserError, match="no row '.*; it has b0, b1"):
        efficientnet.get_config(row)
