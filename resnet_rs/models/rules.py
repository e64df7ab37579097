"""The values that the settings of a network take; importing them imports neither JAX nor Flax."""

from resnet_rs.models.families import network_names
from resnet_rs.utils.rules import Rule, choice, flag, network, number, per_stage, whole

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
    'initializer': choice('truncated_normal', 'he_normal', 'xavier_uniform'),
    'zero_gamma': flag(),
    'output_stride': Rule(int, '8, 16 or 32', lambda stride: stride in (8, 16, 32)),
    'radix': whole(1),
    'cardinality': whole(1),
    'drop_block_rate': number(0, 1, below=True),
    'padding': choice('symmetric', 'same'),
    'pool_unstrided_shortcut': flag(),
    'squeeze_excite_divisor': whole(1),
    'scan_blocks': flag(),
    'remat': per_stage(('', 'conv_outputs', 'block')),
}
# Of the arguments of `create_model`. In config.model 0 classes are those of the data.
ARGUMENTS = RULES | {
    'num_classes': whole(1),
    'stem': choice('deep_strided', 'deep', 'conv7'),
    'block': choice('bottleneck', 'basic'),
    'shortcut': choice('average_pool', 'projection'),
    'stride_in': choice('conv2', 'conv1'),
}
