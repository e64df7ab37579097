"""Tests that the place of the state changes neither what is learnt nor the use of a checkpoint."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from helpers import prepared
from helpers.sharded_steps import held_shares, two_float64_steps
from jax.sharding import PartitionSpec

import train_lib
from configs import digits
from resnet_rs.run.checkpoint import Checkpoints, RunMetadata
from resnet_rs.run.preflight import check_workdir
from resnet_rs.run.run_log import read_metrics
from resnet_rs.run.start import FineTuning, fine_tuning_start
from resnet_rs.training.sharding import check_divides, create_mesh, partition, shardings_of
from resnet_rs.training.steps import create_program
from resnet_rs.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('one_stage', 'shared_programs')


def small_config(**settings):
    config = digits.get_config('debug').unlock()
    config.duration = '4 steps'
    config.optimizer.warmup = '0 steps'
    config.optimizer.learning_rate = 0.2
    config.eval.every = '2 steps'
    config.checkpoint.every = '2 steps'
    config.checkpoint.keep_last = 10
    config.sharding.replicate_below = 64
    config.update_from_flattened_dict(settings)
    return config


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((3, 3, 64, 128), PartitionSpec(None, None, None, 'data')),
        ((3, 3, 128, 64), PartitionSpec(None, None, 'data')),
        ((1, 1, 64, 64), PartitionSpec(None, None, 'data')),
        ((2048, 1001), PartitionSpec('data')),
        ((1001, 2048), PartitionSpec(None, 'data')),
        ((3, 3, 3, 30), PartitionSpec()),  # nothing divides by 8
        ((40,), PartitionSpec('data')),
        ((32,), PartitionSpec()),  # fewer than 40 elements
        ((), PartitionSpec()),
    ],
)
def test_the_largest_dimension_that_divides_is_split(shape, expected):
    assert partition(shape, 8, 40) == expected


def test_a_batch_that_does_not_divide_is_told_with_its_flag():
    for name, said in (
        ('eval.batch_size', 'use --config.eval.batch_size=96 or 104'),
        ('--batch_size', 'use --batch_size=96 or 104'),
        ('batch_size / accumulation', 'make it 96 or 104'),
    ):
        with pytest.raises(UserError) as error:
            check_divides(name, 100, 8, '8 devices')
        assert str(error.value) == (f'{name} is 100, which does not divide over 8 devices; {said}')


def test_slices_are_the_first_axis():
    devices = jax.devices()
    assert create_mesh().shape == {'data': 8}
    mesh = create_mesh(slices=2)
    assert mesh.shape == {'slice': 2, 'data': 4}
    assert mesh.devices.tolist() == [devices[:4], devices[4:]]


@dataclasses.dataclass(frozen=True)
class Device:
    """The attributes of a device that a mesh reads."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = 'cpu'
    device_kind: str = 'of a test'


def test_devices_know_their_slices():
    devices = [Device(id=number, slice_index=number % 2) for number in range(8)]
    grid = np.vectorize(lambda device: device.slice_index)(create_mesh(devices).devices)
    np.testing.assert_array_equal(grid, [[0] * 4, [1] * 4])
    with pytest.raises(UserError, match='slices is 4, but there are 8 devices in 2 slices'):
        create_mesh(devices, slices=4)


def test_the_devices_of_a_process_stand_together():
    devices = [
        Device(number, slice_index=number // 8, process_index=number % 4) for number in range(16)
    ]
    found = [[device.process_index for device in row] for row in create_mesh(devices).devices]
    assert found == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2


@pytest.mark.parametrize('slices', [3, -1, 16])
def test_slices_that_cannot_be(slices):
    with pytest.raises(UserError, match=f'slices is {slices}, but there are 8 devices in 1 slice;'):
        create_mesh(slices=slices)


def two_steps(strategy, slices):
    """Returns state and metrics of training in two micro-batches, on eight devices."""
    config = small_config(
        **{
            'sharding.strategy': strategy,
            'sharding.slices': slices,
            'batch_size': 32,
            'optimizer.accumulation_steps': 2,
            'optimizer.gradient_clip_norm': 1.0,
        }
    )
    return two_float64_steps(config, create_mesh(slices=slices))


def test_every_strategy_learns_the_same():
    with jax.enable_x64(True):
        expected, losses = two_steps('data_parallel', 1)
        assert held_shares(expected) == {'params': 1, 'ema': 1, 'opt': 1}
        for strategy, slices in (('zero1', 2), ('fsdp', 1)):
            state, same_losses = two_steps(strategy, slices)
            held = held_shares(state)
            assert held['ema'] < 0.5 and held['opt'] < 0.5
            assert held['params'] == 1 if strategy == 'zero1' else held['params'] < 0.5
            for a, b in zip(
                jax.tree.leaves((expected, losses)),
                jax.tree.leaves((state, same_losses)),
                strict=True,
            ):
                np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


def random_state(program):
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jax.device_put(
            random.uniform(size=leaf.shape).astype(leaf.dtype), leaf.sharding
        ),
        program.state,
    )


@pytest.mark.parametrize(
    ('saved_as', 'restored_as'),
    [
        ('zero1', 'fsdp'),
        ('fsdp', 'data_parallel'),
        ('data_parallel', 'zero1'),
    ],
)
def test_a_checkpoint_is_restored_under_any_strategy(saved_as, restored_as, tmp_path):
    before = create_program(
        small_config(**{'sharding.strategy': saved_as}), create_mesh(slices=2), 1437
    )
    state = random_state(before)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, RunMetadata(0.0, 4))
    after = create_program(
        small_config(**{'sharding.strategy': restored_as}), create_mesh(jax.devices()[:4]), 1437
    )
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore(int(state.step), after.state, 0)
    assert shardings_of(restored) == shardings_of(after.state) != shardings_of(state)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(a, b)

    backwards = FineTuning(int(state.step), tuple(reversed(range(10))), '')
    tuned = fine_tuning_start(str(tmp_path), random_state(after), backwards)
    assert shardings_of(tuned) == shardings_of(after.state)
    expected = jax.device_get(state.ema)
    expected['params']['head'] = {
        name: leaf[..., ::-1] for name, leaf in expected['params']['head'].items()
    }
    for weights in (tuned.variables, tuned.ema):
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(weights), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_run_with_split_state_resumes_as_it_was(no_report, tmp_path):
    config = small_config(
        **{
            'sharding.strategy': 'fsdp',
            'sharding.slices': 2,
            'data.data_dir': prepared.data_dir('digits', 'array_record'),
        }
    )
    train_lib.train_and_evaluate(config, str(tmp_path), profile_steps=(2, 3))
    expected = read_metrics(tmp_path)
    (trace,) = (tmp_path / 'plugins' / 'profile' / 'steps_2_3').iterdir()
    assert traced_steps(trace) == [2, 3]

    shutil.rmtree(tmp_path / 'checkpoints' / '4')
    train_lib.train_and_evaluate(config, str(tmp_path))
    for a, b in zip(expected, read_metrics(tmp_path), strict=True):
        assert a | {'time': None} == b | {'time': None}

    config.sharding.update(strategy='zero1', slices=1, replicate_below=0)
    check_workdir(config, tmp_path)  # may resume with any of them


def traced_steps(path):
    """The steps that were annotated in the trace of a process."""
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    return sorted(
        {
            dict(event.stats)['step_num']
            for plane in planes
            for line in plane.lines
            for event in line.events
            if event.name == 'train'
        }
    )
