"""Schedules, decay, optimisers and EMA against closed forms and plain numpy."""

import math

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import efficientnet
from resnet_rs.config import default_config
from resnet_rs.config.durations import to_steps
from resnet_rs.config.validation import check_settings
from resnet_rs.models import create_model, init_variables
from resnet_rs.training.optimizer import (
    cosine_after_warmup,
    create_optimizer,
    create_schedule,
    step_schedule,
    update_ema,
    weight_decay_mask,
)
from resnet_rs.utils.errors import UserError

IMAGENET = 1_281_167


def test_cosine_schedule_of_the_paper():
    config = default_config()
    total = to_steps(config.duration, batch_size=4096, examples_per_epoch=IMAGENET)
    schedule = create_schedule(config, total, IMAGENET)
    warmup = 1564  # 5 epochs

    def closed_form(step):
        def cosine(s):
            return 1.6 * 0.5 * (1 + math.cos(math.pi * s / total))

        return cosine(step) if step >= warmup else step / warmup * cosine(warmup)

    for step in (0, 1, warmup // 2, warmup - 1, warmup, warmup + 1, total // 2, total - 1, total):
        assert float(schedule(step)) == pytest.approx(closed_form(step), rel=2e-5, abs=2e-7)
    assert float(schedule(0)) == 0.0
    assert float(schedule(total // 2)) == pytest.approx(0.8, rel=1e-4)


def test_linear_scaling():
    config = default_config()
    for batch_size, peak in ((256, 0.1), (1024, 0.4), (4096, 1.6)):
        config.batch_size = batch_size
        config.optimizer.warmup = '0 steps'
        assert float(create_schedule(config, 100, IMAGENET)(0)) == pytest.approx(peak)


def test_step_schedule_of_the_released_trainer():
    schedule = step_schedule(1.6, 50, 900, default_config().optimizer.step_at)
    expected = {0: 0, 25: 0.8, 50: 1.6, 299: 1.6, 300: 0.16, 599: 0.16, 600: 0.016, 800: 0.0016}
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)


def test_steps_of_bag_of_tricks():
    """120 epochs, a tenth after 30, 60 and 90; no part of a run gives a constant rate."""
    schedule = step_schedule(0.1, 0, 1200, (0.25, 0.5, 0.75))
    for step, rate in {0: 0.1, 299: 0.1, 300: 0.01, 600: 1e-3, 899: 1e-3, 900: 1e-4}.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)
    assert float(step_schedule(0.1, 0, 10, ())(9)) == pytest.approx(0.1)
    for total in (7, 90, 109_475, 112_590):
        schedule = step_schedule(1.0, 0, total, (30 / 90, 60 / 90, 80 / 90))
        for drops, epoch in enumerate((30, 60, 80), start=1):
            first = -(-total * epoch // 90)
            assert float(schedule(first)) == pytest.approx(0.1**drops, rel=1e-5)
            assert float(schedule(first - 1)) > 5 * 0.1**drops


def test_cosine_after_the_warmup():
    """0.5 (1 + cos(pi t / T)) of the peak, where T excludes the warm-up (Bag of Tricks 5.1)."""
    schedule = cosine_after_warmup(0.4, 5, 25)
    expected = [0.4 * step / 5 for step in range(5)]
    expected += [0.4 * (1 + math.cos(math.pi * t / 20)) / 2 for t in range(21)]
    found = [float(schedule(step)) for step in range(26)]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_decay_of_everything():
    params = {'norm1': {'scale': 1.0, 'bias': 1.0}, 'conv1': {'kernel': 1.0}}
    assert all(jax.tree.leaves(weight_decay_mask(params, 'everything')))


@pytest.mark.parametrize('which, tensors', (('kernels_and_biases', 122), ('kernels', 89)))
def test_decayed_leaves_of_resnet_rs_50(which, tensors):
    """122 tensors in the authors' code, 33 of them biases; 89 in TF Model Garden."""
    params = jax.eval_shape(lambda: init_variables(create_model('resnet_rs_50'), 64))['params']
    mask = flax.traverse_util.flatten_dict(weight_decay_mask(params, which))
    covered = [path for path, decayed in mask.items() if decayed]
    assert len(covered) == tensors
    assert not any('norm' in name for path in covered for name in path)


@pytest.mark.parametrize('nesterov', (False, True))
def test_sgd_with_coupled_decay_in_numpy(nesterov):
    config = default_config()
    config.optimizer.nesterov = nesterov
    config.optimizer.weight_decay = 0.01
    optimizer = create_optimizer(config, lambda step: 0.1 * (step + 1), ())
    random = np.random.default_rng(0)
    weights = {'kernel': random.normal(size=5), 'norm': {'scale': random.normal(size=3)}}
    params = jax.tree.map(jnp.float32, weights)
    state = optimizer.init(params)
    velocity = jax.tree.map(np.zeros_like, weights)
    for step in range(4):
        gradients = jax.tree.map(lambda w: random.normal(size=w.shape), weights)
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradients), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        gradients['kernel'] = gradients['kernel'] + 0.01 * weights['kernel']
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
        direction = velocity
        if nesterov:
            direction = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradients)
        rate = 0.1 * (step + 1)
        weights = jax.tree.map(lambda w, d, rate=rate: w - rate * d, weights, direction)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, weights)


def test_adam_with_decoupled_decay_in_numpy():
    config = default_config()
    config.optimizer.update({'name': 'adam', 'momentum': 0.8, 'weight_decay': 0.01})
    optimizer = create_optimizer(config, lambda step: 0.1 * (step + 1), ())
    random = np.random.default_rng(0)
    weights = {'kernel': random.normal(size=5), 'norm': {'scale': random.normal(size=3)}}
    params = jax.tree.map(jnp.float32, weights)
    state = optimizer.init(params)
    first = second = jax.tree.map(np.zeros_like, weights)
    for step in range(4):
        gradients = jax.tree.map(lambda w: random.normal(size=w.shape), weights)
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradients), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        first = jax.tree.map(lambda m, g: 0.8 * m + 0.2 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradients)
        unbiased = 1 - 0.8 ** (step + 1), 1 - 0.999 ** (step + 1)

        def direction(m, v, unbiased=unbiased):
            return m / unbiased[0] / (np.sqrt(v / unbiased[1]) + 1e-8)

        directions = jax.tree.map(direction, first, second)
        directions['kernel'] = directions['kernel'] + 0.01 * weights['kernel']
        rate = 0.1 * (step + 1)
        weights = jax.tree.map(lambda w, d, rate=rate: w - rate * d, weights, directions)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params, weights
    )


def test_clipping_leaves_the_decay_alone():
    config = default_config()
    config.optimizer.gradient_clip_norm = 1.0
    config.optimizer.weight_decay = 0.5
    optimizer = create_optimizer(config, lambda step: 1.0, ())
    params = {'kernel': jnp.asarray([4.0, 0.0])}
    gradients = {'kernel': jnp.asarray([0.0, 10.0])}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    np.testing.assert_allclose(updates['kernel'], (-2.0, -1.0), rtol=1e-6)


def test_ema_is_a_plain_loop():
    random = np.random.default_rng(0)
    average = random.normal(size=6)
    ema = {'params': jnp.float32(average), 'batch_stats': jnp.float32(average)}
    for t in range(1, 30):
        value = random.normal(size=6)
        decay = min(0.75, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * value
        new = {'params': jnp.float32(value), 'batch_stats': jnp.float32(value)}
        ema = update_ema(ema, new, jnp.int32(t), 0.75)
    np.testing.assert_allclose(ema['params'], average, rtol=1e-5)
    np.testing.assert_allclose(ema['batch_stats'], average, rtol=1e-5)
    assert ema['params'].dtype == jnp.float32


def test_exponential_schedule_of_efficientnet():
    config = efficientnet.get_config('b0')
    total = to_steps(config.duration, batch_size=4096, examples_per_epoch=IMAGENET)
    schedule = create_schedule(config, total, IMAGENET)
    every = 2.4 * IMAGENET / 4096
    for step in (0, 1, 1000, 1563, 1564, 1565, 2252, 2253, total // 2, total - 1):
        # 5 epochs of warm-up; the steps of 0.97 count from the start of the run.
        rate = 0.256 * (step / 1564 if step < 1564 else 0.97 ** math.floor(step / every))
        assert float(schedule(step)) == pytest.approx(rate, rel=2e-5, abs=1e-9), step


def rmsprop_config():
    config = default_config()
    config.optimizer.update(name='rmsprop', weight_decay=0.01, rmsprop_epsilon=1e-3)
    return config


def test_rmsprop_is_tensorflows():
    """Ten steps beside tf.compat.v1.train.RMSPropOptimizer, with rates that change."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    start = random.normal(size=7)
    gradients = random.normal(size=(10, 7)) * 10.0 ** random.integers(-4, 2, (10, 7))
    config = rmsprop_config()
    # That optimiser rounds its constants to float32, whatever the weight is.
    for name in ('rmsprop_decay', 'momentum', 'rmsprop_epsilon'):
        config.optimizer[name] = float(np.float32(config.optimizer[name]))
    rates = np.linspace(0.3, 0.1, 10)
    with jax.enable_x64(True):
        optimizer = create_optimizer(config, lambda step: jnp.asarray(rates)[step], ())
        params = {'kernel': jnp.asarray(start)}
        state = optimizer.init(params)
        ours = []
        for gradient in gradients:
            updates, state = optimizer.update({'kernel': jnp.asarray(gradient)}, state, params)
            params = jax.tree.map(jnp.add, params, updates)
            ours.append(np.asarray(params['kernel']))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        weight = tf.compat.v1.get_variable('w', initializer=start)
        gradient, rate = (tf.compat.v1.placeholder(tf.float64) for _ in range(2))
        theirs = tf.compat.v1.train.RMSPropOptimizer(rate, 0.9, 0.9, 1e-3)
        update = theirs.apply_gradients([(gradient + 0.01 * weight, weight)])
        session.run(tf.compat.v1.global_variables_initializer())
        for step in range(10):
            session.run(update, {gradient: gradients[step], rate: rates[step]})
            np.testing.assert_allclose(ours[step], session.run(weight), rtol=1e-10)


def test_rmsprop_in_numpy():
    """The same formula in float64 throughout, to 1e-12."""
    random = np.random.default_rng(1)
    weight = random.normal(size=5)
    gradients = random.normal(size=(10, 5))
    mean_square, momentum = np.ones(5), np.zeros(5)
    with jax.enable_x64(True):
        optimizer = create_optimizer(rmsprop_config(), lambda step: 0.1 * (step + 1), ())
        params = {'kernel': jnp.asarray(weight)}
        state = optimizer.init(params)
        for step, gradient in enumerate(gradients):
            updates, state = optimizer.update({'kernel': jnp.asarray(gradient)}, state, params)
            params = jax.tree.map(jnp.add, params, updates)
            decayed = gradient + 0.01 * weight
            mean_square = 0.9 * mean_square + 0.1 * decayed**2
            rate = 0.1 * (step + 1)
            momentum = 0.9 * momentum + rate * decayed / np.sqrt(mean_square + 1e-3)
            weight = weight - momentum
            np.testing.assert_allclose(params['kernel'], weight, rtol=1e-12)


def test_rmsprop_has_no_form_of_nesterov():
    config = rmsprop_config()
    config.optimizer.nesterov = True
    with pytest.raises(UserError, match='optimizer.nesterov is True, but'):
        check_settings(config)


def test_every_stage_has_its_rate():
    """Head 1, stages 4 to 1 the powers 1 to 4 of 1/2, stem 1/32; of a network of two stages too."""
    config = default_config()
    config.optimizer.update({'momentum': 0.0, 'weight_decay': 0.0, 'depth_decay': 0.5})
    names = ('stem', 'stage1', 'stage2', 'stage3', 'stage4', 'head')
    for present, powers in ((names, (5, 4, 3, 2, 1, 0)), (names[:3] + names[5:], (3, 2, 1, 0))):
        params = {name: {'kernel': jnp.ones(2)} for name in present}
        optimizer = create_optimizer(config, lambda step: 1.0, present)
        for learning in (present, ('stage2', 'head')):  # the others are frozen
            gradients = {name: params[name] for name in learning}
            updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
            for name in learning:
                power = powers[present.index(name)]
                np.testing.assert_allclose(updates[name]['kernel'], -(0.5**power))
