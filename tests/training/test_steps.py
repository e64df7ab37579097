"""One training step: the same on any devices, micro-batches and groups; results in numpy."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from resnet_rs.training.evaluation import evaluate
from resnet_rs.training.networks import normalise
from resnet_rs.training.objectives import smoothed_cross_entropy
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import (
    batch_norm_group_size,
    create_eval_step,
    create_program,
)
from resnet_rs.training.window import (
    NOT_YET,
    WATCHED,
    add_to_window,
    empty_window,
    first_nonfinite,
)
from resnet_rs.utils.errors import UserError

EXAMPLES = 1437


def small_config(**settings):
    config = digits.get_config('debug').unlock()
    config.model.stage_sizes = (1,)  # compiles in a quarter of the time of four stages
    config.batch_size = 16
    config.eval.batch_size = 16
    config.duration = '40 steps'
    config.model.dropout_rate = 0.2
    config.model.stochastic_depth_rate = 0.2
    config.model.batch_norm_group_size = -1
    config.optimizer.warmup = '0 steps'
    config.update_from_flattened_dict(settings)
    return config


def batches(count, size=16):
    random = np.random.default_rng(0)
    for _ in range(count):
        label = random.integers(0, 10, size).astype(np.int32)
        image = random.integers(0, 100, (size, 32, 32, 3)) + label[:, None, None, None] * 15
        yield {
            'image': image.astype(np.uint8),
            'label': label,
            'mask': np.ones(size, np.float32),
            'index': np.arange(size, dtype=np.int32),
        }


@functools.cache
def program_of(device_count, **settings):
    mesh = create_mesh(jax.devices()[:device_count])
    return create_program(small_config(**settings), mesh, EXAMPLES), mesh


def run(device_count, steps=5, **settings):
    """Returns the state after `steps` and the metrics of each."""
    program, mesh = program_of(device_count, **settings)
    state, history = program.init(), []
    for batch in batches(steps):
        state, metrics = program.train_step(state, to_global(batch, mesh), {})
        history.append(jax.device_get(metrics))
    return jax.device_get(state), history


def assert_close(a, b, rtol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


def test_eight_devices_are_one():
    state_1, history_1 = run(1)
    state_8, history_8 = run(8)
    for one, eight in zip(history_1, history_8, strict=True):
        assert one['loss'] == pytest.approx(eight['loss'], rel=1e-4)
    assert_close(state_1.variables, state_8.variables, 1e-3)
    assert_close(state_1.ema, state_8.ema, 1e-3)


def test_groups_are_the_devices_of_the_reference():
    """Groups of four on one device compute what four devices with a group each do."""
    state_1, _ = run(1, steps=2, **{'model.batch_norm_group_size': 4})
    state_4, _ = run(4, steps=2, **{'model.batch_norm_group_size': 0})
    assert_close(state_1.variables, state_4.variables, 1e-3)


def test_accumulation_is_the_whole_batch():
    """Two micro-batches with groups of 8 give the gradients of one batch with groups of 8.

    A micro-batch takes every other example, so the whole batch is put into that order.
    """
    settings = {
        'model.batch_norm_group_size': 8,
        'model.dropout_rate': 0.0,
        'model.stochastic_depth_rate': 0.0,
    }
    mesh = create_mesh(jax.devices()[:2])
    batch = next(batches(1))
    order = np.concatenate([np.arange(0, 16, 2), np.arange(1, 16, 2)])
    reordered = {name: value[order] for name, value in batch.items()}
    results = []
    for passes, data in ((1, reordered), (2, batch)):
        config = small_config(**settings, **{'optimizer.accumulation_steps': passes})
        program = create_program(config, mesh, EXAMPLES)
        state, metrics = program.train_step(program.init(), to_global(data, mesh), {})
        results.append(jax.device_get((state.variables, metrics)))
    assert_close(*results, 2e-5)


SKIPPED = [0, 5, 6, 12]  # the first of the batch, neighbours, and within a group each
BEFORE = [15, 4, 4, 11]  # the images before them; the batch is a ring


def batch_with_skipped(blank_value=0):
    batch = next(batches(1))
    batch['mask'][SKIPPED] = 0
    batch['label'][SKIPPED] = -1
    batch['image'][SKIPPED] = blank_value
    return batch


def skipping(**settings):
    return {
        'data.corrupt_images': 'skip',
        'model.batch_norm_group_size': 8,
        'model.dropout_rate': 0.0,
        'model.stochastic_depth_rate': 0.0,
        **settings,
    }


def first_step(batch, device_count=1, **settings):
    program, mesh = program_of(device_count, **skipping(**settings))
    return jax.device_get(program.train_step(program.init(), to_global(batch, mesh), {}))


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ('device_count', 'settings'),
    [
        (1, {}),
        (2, {'optimizer.accumulation_steps': 2, 'data.mixup_alpha': 0.4, 'data.cutmix_alpha': 1.0}),
    ],
)
def test_what_a_skipped_image_holds_changes_no_bit(device_count, settings):
    black, other = (
        first_step(batch_with_skipped(value), device_count, **settings) for value in (0, 200)
    )
    assert_same_bits(black, other)


def test_batch_statistics_are_those_of_the_images_that_take_the_skipped_places():
    """The norm after the first convolution, in numpy: each image counts once, and once more if it
    precedes a skipped one. The loss is the mean over the other images."""
    batch = batch_with_skipped()
    state, metrics = first_step(batch)
    program, _ = program_of(1, **skipping())
    config = small_config()
    before = jax.device_get(program.init().variables)

    source = np.arange(16)
    source[SKIPPED] = BEFORE
    images = (batch['image'][source] - np.array(config.data.mean_rgb)) / config.data.std_rgb
    kernel = before['params']['stem']['conv1']['kernel'].astype(np.float64)
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    outputs = sum(
        padded[:, down : down + 32 : 2, right : right + 32 : 2] @ kernel[down, right]
        for down in range(3)
        for right in range(3)
    )
    groups = outputs.reshape(2, -1, outputs.shape[-1])
    statistics = state.variables['batch_stats']['stem']['norm1']
    np.testing.assert_allclose(statistics['mean'], groups.mean(1).mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics['var'], groups.var(1, ddof=1).mean(0), rtol=1e-4)

    apply = functools.partial(program.model.apply, train=True, mutable=['batch_stats'])
    logits, _ = jax.jit(apply)(before, images.astype(np.float32))
    losses = smoothed_cross_entropy(logits, batch['label'], config.optimizer.label_smoothing)
    expected = np.mean(np.delete(np.asarray(losses), SKIPPED))
    assert metrics['loss'] == pytest.approx(expected, rel=1e-4)


def test_skipping_is_the_same_on_eight_devices():
    batch = batch_with_skipped()
    one, eight = first_step(batch, 1), first_step(batch, 8)
    assert one[1]['loss'] == pytest.approx(eight[1]['loss'], rel=1e-4)
    assert_close(one[0].variables, eight[0].variables, 1e-3)


def test_a_batch_without_skipped_images_has_the_bits_of_a_run_that_skips_none():
    batch = next(batches(1))
    settings = {'model.stage_sizes': (1, 1)}  # in one stage XLA adds in another order
    skipping_none = first_step(batch, **settings, **{'data.corrupt_images': 'fail'})
    assert_same_bits(first_step(batch, **settings), skipping_none)


def test_a_batch_of_skipped_images_is_finite_and_teaches_nothing():
    batch = batch_with_skipped()
    batch['mask'][:] = 0
    state, metrics = first_step(batch)
    assert metrics['loss'] == 0 and metrics['gradient_norm'] == 0
    assert state.window['nonfinite_step'] == NOT_YET
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables))


def test_window_means_start_again_after_each_log():
    _, history = run(1, steps=6, **{'log.every': '3 steps'})
    _, single = run(1, steps=6, **{'log.every': '1 step'})
    losses = [float(metrics['loss']) for metrics in single]
    assert history[2]['loss'] == pytest.approx(np.mean(losses[:3]), rel=1e-5)
    assert history[5]['loss'] == pytest.approx(np.mean(losses[3:]), rel=1e-5)


def test_training_lowers_the_loss_and_moves_the_ema():
    state, history = run(1, steps=40, **{'log.every': '1 step'})
    assert history[-1]['loss'] < 0.85 * history[0]['loss']
    kernel = state.variables['params']['stem']['conv1']['kernel']
    assert np.any(kernel != state.ema['params']['stem']['conv1']['kernel'])
    assert {leaf.dtype for leaf in jax.tree.leaves(state.ema)} == {np.dtype('float32')}
    statistics = state.ema['batch_stats']['stem']['norm1']['mean']
    assert np.any(statistics != state.variables['batch_stats']['stem']['norm1']['mean'])


def test_the_first_nonfinite_step_is_remembered():
    state, history = run(1, steps=5, **{'optimizer.learning_rate': 1e30})
    finite = [
        all(np.isfinite([m['gradient_norm'], m['parameter_norm'], m['update_norm']]))
        for m in history
    ]
    assert not all(finite)
    step, numbers = first_nonfinite(state.window)
    assert step == finite.index(False) + 1
    # The loss of the metrics is a mean over several steps; the norms are those of one.
    for name in ('gradient_norm', 'parameter_norm', 'update_norm'):
        np.testing.assert_equal(numbers[name], float(history[step - 1][name]))


def test_a_window_keeps_its_dtypes_in_float64():
    """A compiled step takes its own window again."""
    with jax.enable_x64():
        window = empty_window(('top1',))
        state = types.SimpleNamespace(window=window, step=jnp.int32(0))
        sums = {name: jnp.float64(2) for name in ('loss', 'top1', 'examples')}
        norms = {name: jnp.float64(1) for name in WATCHED[1:]}
        found = add_to_window(state, sums, norms, log_every=3)
    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in window.items()
    }
    assert found['loss'] == 2


def test_numbers_of_a_nonfinite_step_have_the_names_of_a_stored_window():
    """The order is that of checkpoints, which hold the four numbers as an array."""
    window = {'nonfinite_step': np.int32(7), 'nonfinite_norms': np.float32([1, np.inf, 3, 4])}
    assert first_nonfinite(window) == (
        7,
        {
            'loss': 1,
            'gradient_norm': np.inf,
            'parameter_norm': 3,
            'update_norm': 4,
        },
    )
    assert first_nonfinite(window | {'nonfinite_step': np.int32(-1)}) is None


def test_evaluation_in_numpy_on_any_batching():
    """37 examples in batches of 16 on 8 devices and in one batch on one device."""
    config = small_config()
    data = next(batches(1, 37))
    results = []
    for device_count, size in ((8, 16), (1, 37)):
        config.eval.batch_size = size
        mesh = create_mesh(jax.devices()[:device_count])
        program = create_program(config, create_mesh(jax.devices()[:1]), EXAMPLES)
        state = program.init()
        noisy = jax.tree.map(lambda x: x + 0.1, state.variables)
        weights = {'raw': state.variables, 'ema': noisy}
        eval_step = create_eval_step(config, program.model, mesh)
        parts = []
        for start in range(0, 37, size):
            part = {name: value[start : start + size] for name, value in data.items()}
            missing = size - len(part['label'])
            fill = {'image': 0, 'label': -1, 'mask': 0, 'index': -1}
            parts.append(
                {
                    name: np.pad(
                        value,
                        [(0, missing)] + [(0, 0)] * (value.ndim - 1),
                        constant_values=fill[name],
                    )
                    for name, value in part.items()
                }
            )
        results.append(evaluate(eval_step, weights, parts, lambda: 37, mesh))
    for evaluation in results:
        assert evaluation.examples == 37
        images = normalise(jnp.asarray(data['image']), config)
        logits = np.asarray(program.model.apply(noisy, images, False), np.float64)
        shifted = logits - logits.max(1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        of_label = log_probabilities[np.arange(37), data['label']]
        ranks = (log_probabilities > of_label[:, None]).sum(1)
        assert evaluation.metrics['ema_top1'] == pytest.approx((ranks == 0).mean())
        assert evaluation.metrics['ema_top5'] == pytest.approx((ranks < 5).mean())
        assert evaluation.metrics['ema_loss'] == pytest.approx(-of_label.mean(), rel=1e-4)
        confidence = np.exp(log_probabilities.max(1))
        np.testing.assert_allclose(evaluation.table['ema_confidence'], confidence, rtol=1e-4)
    with pytest.raises(RuntimeError, match='counted 37 examples, .* instead of 38'):
        evaluate(eval_step, weights, parts, lambda: 38, mesh)


def test_batches_that_do_not_divide():
    config = small_config(batch_size=20)
    with pytest.raises(UserError, match='batch_size is 20.*use --config.batch_size=16 or 24'):
        batch_norm_group_size(config, 8)
    config = small_config(**{'model.batch_norm_group_size': 3})
    with pytest.raises(UserError, match='of model.batch_norm_group_size=3; make it 15 or 18'):
        batch_norm_group_size(config, 8)


def test_seeds_share_a_program_and_draw_apart():
    mesh = create_mesh(jax.devices()[:1])
    batch = to_global(next(batches(1)), mesh)
    texts, losses = set(), set()
    for seed in (0, 1):
        program = create_program(small_config(seed=seed), mesh, EXAMPLES)
        texts.add(program.train_step.lower(program.state, batch, {}).as_text())
        # The same weights, whatever the seed: only dropout and stochastic depth draw by it.
        start = create_program(small_config(), mesh, EXAMPLES).init()
        start = start.replace(seed=jnp.asarray(seed, jnp.int32))
        losses.add(float(program.train_step(start, batch, {})[1]['loss']))
    assert len(texts) == 1 and len(losses) == 2
