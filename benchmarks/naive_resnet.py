"""A straightforward ResNet-RS and training step, as the baseline of step_cycles.py.

The code has plain flax.linen layers and an optax chain, one operation after the other. Parameters
have the names and shapes of the project's own network. The code covers the resnet_rs_* networks
alone and is not for use elsewhere.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

kernel_init = nn.initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal')


class SqueezeExcite(nn.Module):
    ratio: float
    dtype: Any

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        gate = x.mean((1, 2), keepdims=True)
        gate = nn.Dense(int(channels * self.ratio), dtype=self.dtype, name='reduce')(gate)
        gate = nn.Dense(channels, dtype=self.dtype, name='expand')(nn.relu(gate))
        return x * nn.sigmoid(gate)


class Block(nn.Module):
    features: int
    stride: int
    drop_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        conv = functools.partial(nn.Conv, use_bias=False, kernel_init=kernel_init, dtype=self.dtype)
        norm = functools.partial(
            nn.BatchNorm, use_running_average=not train, momentum=0.0, dtype=self.dtype
        )
        strides = (self.stride, self.stride)

        y = conv(self.features, (1, 1), name='conv1')(x)
        y = nn.relu(norm(name='norm1')(y))
        y = conv(self.features, (3, 3), strides, padding=1, name='conv2')(y)
        y = nn.relu(norm(name='norm2')(y))
        y = conv(4 * self.features, (1, 1), name='conv3')(y)
        y = norm(name='norm3', scale_init=nn.initializers.zeros)(y)
        y = SqueezeExcite(0.25, self.dtype, name='squeeze_excite')(y)
        y = nn.Dropout(self.drop_rate, broadcast_dims=(1, 2, 3), rng_collection='stochastic_depth')(
            y, deterministic=not train
        )

        if x.shape != y.shape:
            if self.stride > 1:
                x = nn.avg_pool(x, (2, 2), strides, padding='SAME', count_include_pad=False)
            x = conv(4 * self.features, (1, 1), name='shortcut_conv')(x)
            x = norm(name='shortcut_norm')(x)
        return nn.relu(x + y)


class Stem(nn.Module):
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        narrow, wide = self.width // 2, self.width
        layers = [(narrow, 2), (narrow, 1), (wide, 1), (wide, 2)]
        for index, (features, stride) in enumerate(layers, start=1):
            x = nn.Conv(
                features,
                (3, 3),
                (stride, stride),
                padding=1,
                use_bias=False,
                kernel_init=kernel_init,
                dtype=self.dtype,
                name=f'conv{index}',
            )(x)
            x = nn.BatchNorm(
                use_running_average=not train, momentum=0.0, dtype=self.dtype, name=f'norm{index}'
            )(x)
            x = nn.relu(x)
        return x


class Stage(nn.Module):
    features: int
    size: int
    stride: int
    drop_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x, train):
        for index in range(self.size):
            stride = self.stride if index == 0 else 1
            block = Block(
                self.features, stride, self.drop_rate, self.dtype, name=f'block{index + 1}'
            )
            x = block(x, train)
        return x


class ResNet(nn.Module):
    stage_sizes: tuple[int, ...]
    num_classes: int
    dropout_rate: float
    stochastic_depth_rate: float
    dtype: Any = jnp.bfloat16
    width: int = 64

    @nn.compact
    def __call__(self, x, train):
        x = Stem(self.width, self.dtype, name='stem')(x.astype(self.dtype), train)
        for index, size in enumerate(self.stage_sizes):
            drop_rate = self.stochastic_depth_rate * (index + 2) / (len(self.stage_sizes) + 1)
            x = Stage(
                self.width * 2**index,
                size,
                2 if index else 1,
                drop_rate,
                self.dtype,
                name=f'stage{index + 1}',
            )(x, train)
        x = x.astype(jnp.promote_types(self.dtype, jnp.float32)).mean((1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name='head')(x)


def create_step(config, model, schedule):
    """Returns (init, train_step) of `config`; the step maps state and batch to state and loss."""
    settings = config.optimizer
    optimizer = optax.chain(
        optax.add_decayed_weights(
            settings.weight_decay,
            mask=lambda params: jax.tree_util.tree_map_with_path(
                lambda path, _: 'norm' not in jax.tree_util.keystr(path), params
            ),
        ),
        optax.sgd(schedule, settings.momentum),
    )
    mean, std = (jnp.array(config.data[name], float) for name in ('mean_rgb', 'std_rgb'))

    def init(variables):
        return {
            'step': jnp.zeros((), jnp.int32),
            'variables': variables,
            'ema': jax.tree.map(jnp.copy, variables),
            'opt_state': optimizer.init(variables['params']),
        }

    def train_step(state, batch):
        images = (batch['image'] - mean) / std
        rng = jax.random.fold_in(jax.random.key(config.seed), state['step'])
        rngs = dict(zip(('dropout', 'stochastic_depth'), jax.random.split(rng), strict=True))

        def loss(params):
            logits, updated = model.apply(
                state['variables'] | {'params': params},
                images,
                True,
                rngs=rngs,
                mutable=['batch_stats'],
            )
            labels = jax.nn.one_hot(batch['label'], model.num_classes)
            labels = optax.smooth_labels(labels, settings.label_smoothing)
            return optax.softmax_cross_entropy(logits, labels).mean(), updated

        params = state['variables']['params']
        (value, updated), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, state['opt_state'], params)
        variables = {'params': optax.apply_updates(params, updates), **updated}
        step = state['step'] + 1
        decay = jnp.minimum(config.ema.decay, (1 + step) / (10 + step))
        ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state['ema'], variables)
        state = {'step': step, 'variables': variables, 'ema': ema, 'opt_state': opt_state}
        return state, value

    return init, train_step
