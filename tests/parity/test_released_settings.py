"""The rows of configs/resnet_rs.py and the defaults against the authors' released settings.

From tensorflow/tpu, models/official/resnet/resnet_rs/configs/*.yaml; cosine, its warm-up and plain
momentum from TF Model Garden.
"""

import pytest

from configs import resnet_rs
from resnet_rs.config.durations import to_steps

# (depth, pixels): dropout, stochastic depth, RandAugment magnitude.
RELEASED = {
    (50, 160): (0.25, 0, 10),
    (101, 160): (0.25, 0, 10),
    (101, 192): (0.25, 0, 15),
    (152, 192): (0.25, 0, 15),
    (152, 224): (0.25, 0, 15),
    (152, 256): (0.25, 0, 15),
    (200, 256): (0.25, 0.1, 15),
    (270, 256): (0.25, 0.1, 15),
    (350, 256): (0.25, 0.1, 15),
    (350, 320): (0.4, 0.1, 15),
    (420, 320): (0.4, 0.1, 15),
}


def test_rows_are_the_released_ones():
    assert set(resnet_rs.TABLE) == {f'{depth}@{pixels}' for depth, pixels in RELEASED}


@pytest.mark.parametrize('depth, pixels', RELEASED)
def test_settings_of_a_row(depth, pixels):
    config = resnet_rs.get_config(f'{depth}@{pixels}')
    assert config.model.name == f'resnet_rs_{depth}' and config.data.image_size == pixels
    assert (
        config.model.dropout_rate,
        config.model.stochastic_depth_rate,
        config.data.randaugment_magnitude,
    ) == RELEASED[depth, pixels]
    assert (config.data.augment, config.data.randaugment_layers) == ('randaugment', 2)
    assert config.data.resize == 'bicubic_tf1' and config.data.eval_crop == 'padding 32'
    assert config.model.batch_norm_momentum == 0 and config.model.batch_norm_group_size == 0
    optimizer = config.optimizer
    assert (optimizer.momentum, optimizer.nesterov, optimizer.schedule) == (0.9, False, 'cosine')
    assert (optimizer.weight_decay, optimizer.label_smoothing) == (4e-5, 0.1)
    assert optimizer.weight_decay_on == 'kernels_and_biases'
    assert optimizer.learning_rate * config.batch_size / 256 == pytest.approx(1.6)
    assert config.ema.decay == 0.9999 and not optimizer.gradient_clip_norm
    sizes = dict(batch_size=config.batch_size, examples_per_epoch=1_281_167)
    assert config.batch_size == 4096 and to_steps(config.duration, **sizes) == 109_475
    assert to_steps(optimizer.warmup, **sizes) == 1_564
