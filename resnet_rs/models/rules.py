"""The values that the settings of a network take; importing them imports neither JAX nor Flax."""

from resnet_rs.models.families import network_names
from resnet_rs.utils.rules import choice, flag, network, number, per_stage, whole

RULES = {
    'name': network(network_names()),
    'num_classes': whole(0),
    'width_multiplier': number(1 / 32, 64),
    'dropout_rate': number(0, 1, below=True),
    'stochastic_depth_rate': number(0, 1, below=True),
    'dtype': choice('bfloat16', 'float32', 'float64'),
    'batch_norm_momentum': number(0, 1),
    'batch_norm_epsilon': number(0, 1, above=True),
    'batch_norm_group_size': whole(-1),
    'activation': choice('relu', 'swish'),
    'padding': choice('symmetric', 'same'),
    'pool_unstrided_shortcut': flag(),
    'squeeze_excite_divisor': whole(1),
    'scan_blocks': flag(),
    'remat': per_stage(('', 'conv_outputs', 'block')),
}
