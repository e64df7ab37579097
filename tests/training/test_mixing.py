"""Mixup and CutMix: images and targets share a lambda, on any devices and micro-batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from resnet_rs.training.gradients import MIXING
from resnet_rs.training.mixing import mix_images, random_square, with_partners
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import create_program


def config_of(mixup=0.0, cutmix=0.0, **settings):
    config = digits.get_config('debug').unlock()
    config.model.stage_sizes = (1,)  # compiles in a quarter of the time of four stages
    config.batch_size = config.eval.batch_size = 16
    config.data.mixup_alpha, config.data.cutmix_alpha = mixup, cutmix
    config.model.dropout_rate = config.model.stochastic_depth_rate = 0.0
    config.model.batch_norm_group_size = -1
    config.optimizer.warmup = '0 steps'
    config.log.every = '1 step'
    config.update_from_flattened_dict(settings)
    return config


def batch_of(size=16, seed=0):
    random = np.random.default_rng(seed)
    return {
        'image': random.integers(0, 256, (size, 32, 32, 3)).astype(np.uint8),
        'label': random.integers(0, 10, size).astype(np.int32),
        'mask': np.ones(size, np.float32),
        'index': np.arange(size, dtype=np.int32),
    }


def mixed(config, batch, number):
    found = with_partners(batch, config, jax.random.key(number))
    images = batch['image'].astype(np.float32)
    return np.asarray(mix_images(images, images[::-1], found)), jax.device_get(found)


def test_mixup_blends_with_the_reversed_batch():
    batch, shares = batch_of(), []
    images = batch['image'].astype(np.float64)
    for number in range(20):
        got, found = mixed(config_of(mixup=0.2), batch, number)
        share = float(found['share'][0])
        assert (found['share'] == found['share'][0]).all()
        np.testing.assert_allclose(got, share * images + (1 - share) * images[::-1], atol=1e-3)
        np.testing.assert_array_equal(found['partner_label'], batch['label'][::-1])
        shares.append(share)
    assert len(set(shares)) == 20 and 0 <= min(shares) and max(shares) <= 1


def test_shares_are_drawn_from_the_beta_distribution():
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))."""
    batch = jax.tree.map(lambda x: x[:1], batch_of())
    keys = jax.random.split(jax.random.key(0), 4000)
    for alpha in (0.2, 1.0):
        draw = functools.partial(with_partners, batch, config_of(mixup=alpha))
        shares = np.asarray(jax.jit(jax.vmap(draw))(keys)['share'][:, 0], np.float64)
        variance = 1 / (4 * (2 * alpha + 1))
        assert shares.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / 4000))
        assert shares.var() == pytest.approx(variance, rel=0.1)


def test_cutmix_pastes_one_box_and_its_area_is_the_share():
    batch = batch_of()
    boxes = 0
    for number in range(20):
        got, found = mixed(config_of(cutmix=1.0), batch, number)
        partner = (got == batch['image'][::-1]).all(-1)
        own = (got == batch['image']).all(-1)
        assert (partner | own).all()
        pasted = found['pasted'][0]
        assert (found['pasted'] == pasted).all()
        np.testing.assert_array_equal(partner & ~own, found['pasted'] & ~own)
        assert found['share'] == pytest.approx(1 - pasted.mean(), abs=1e-6)
        rows, columns = pasted.any(1), pasted.any(0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns[None])
        for line in (rows, columns):
            assert np.count_nonzero(np.diff(line.astype(int), prepend=0, append=0)) in (0, 2)
        boxes += pasted.any()
    assert boxes > 10


def test_a_box_within_the_image_has_the_area_asked_for():
    """Boxes of a quarter have side 16 of 32; those cut off at the border are smaller."""
    draw = jax.vmap(lambda key: random_square(key, 32, jnp.asarray(0.25)))
    areas = np.asarray(draw(jax.random.split(jax.random.key(1), 400))).sum((1, 2))
    assert areas.max() == 256 and (areas == 256).mean() == pytest.approx((17 / 32) ** 2, abs=0.1)


def test_both_are_used_in_turn_by_chance():
    kinds = [
        bool(mixed(config_of(mixup=0.2, cutmix=1.0), batch_of(), number)[1]['pasted'].any())
        for number in range(40)
    ]
    assert 8 < sum(kinds) < 32


def test_partners_that_are_masked_are_left_out():
    batch = batch_of()
    batch['mask'][0] = 0
    for config in (config_of(mixup=1.0), config_of(cutmix=1.0)):
        got, found = mixed(config, batch, 1)
        np.testing.assert_array_equal(got[15], batch['image'][15])
        assert found['share'][15] == 1 and found['share'][14] < 1


def first_step(config, batch, devices=1):
    mesh = create_mesh(jax.devices()[:devices])
    program = create_program(config, mesh, 1437)
    state, metrics = program.train_step(program.init(), to_global(batch, mesh), {})
    return jax.device_get((state.variables, metrics))


@pytest.mark.parametrize('kind', [{'mixup': 0.4}, {'cutmix': 1.0}])
def test_the_loss_is_that_of_the_mixed_and_smoothed_targets(kind):
    config = config_of(**kind)
    batch = batch_of()
    program = create_program(config, create_mesh(jax.devices()[:1]), 1437)
    state = jax.device_get(program.init())
    metrics = first_step(config, batch)[1]
    rng = jax.random.fold_in(jax.random.key(config.seed), 0)
    found = jax.device_get(with_partners(batch, config, jax.random.fold_in(rng, MIXING)))
    mean, std = np.array(config.data.mean_rgb), np.array(config.data.std_rgb)
    images = (batch['image'] - mean) / std
    blend = found['blend'][:, None, None, None]
    images = np.where(
        found['pasted'][..., None], images[::-1], blend * images + (1 - blend) * images[::-1]
    )
    logits, _ = program.model.apply(
        state.variables,
        images.astype(np.float32),
        True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(0), 'stochastic_depth': jax.random.key(0)},
    )
    logits = np.asarray(logits, np.float64)
    smoothing = config.optimizer.label_smoothing
    assert smoothing > 0
    one_hot = np.eye(10)[batch['label']] * (1 - smoothing) + smoothing / 10
    share = found['share'][:, None]
    targets = share * one_hot + (1 - share) * one_hot[::-1]
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert metrics['loss'] == pytest.approx(-(targets * log_probabilities).sum(1).mean(), rel=1e-3)


def test_eight_devices_mix_as_one():
    config = config_of(mixup=0.2, cutmix=1.0)
    one, eight = first_step(config, batch_of(), 1), first_step(config, batch_of(), 8)
    assert one[1]['loss'] == pytest.approx(eight[1]['loss'], rel=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-3, 1e-3), one[0], eight[0])


def test_passes_of_accumulation_mix_as_one():
    """A micro-batch takes every other example; in that order the partners are the same ones."""
    batch = batch_of()
    order = np.concatenate([np.arange(0, 16, 2), np.arange(1, 16, 2)])
    reordered = {name: value[order] for name, value in batch.items()}
    settings = {'mixup': 0.4, 'cutmix': 1.0, 'model.batch_norm_group_size': 8}
    one = first_step(config_of(**settings), reordered)
    two = first_step(config_of(**settings, **{'optimizer.accumulation_steps': 2}), batch)
    assert one[1]['loss'] == pytest.approx(two[1]['loss'], rel=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 2e-5, 2e-5), one[0], two[0])
