"""Checkpoints are stored unrolled: a run resumes with or without model.scan_blocks, to the bit.

Weights are read alone, and on other devices than those of the run.
"""

import jax
import numpy as np
import pytest

from configs import digits
from resnet_rs.config.stored import write_config
from resnet_rs.models import init_variables
from resnet_rs.run import preflight
from resnet_rs.run.checkpoint import Checkpoints, RunMetadata
from resnet_rs.run.workdir import load_workdir
from resnet_rs.training.sharding import create_mesh, replicated, shapes_on, to_global
from resnet_rs.training.steps import create_program, model_of
from resnet_rs.utils.errors import UserError

RUN = RunMetadata(elapsed_seconds=1.0, batch_norm_group_size=None)


def config_of(scan_blocks):
    config = digits.get_config('debug').unlock()
    config.model.stage_sizes = (3,)
    config.model.scan_blocks = scan_blocks
    config.batch_size = config.eval.batch_size = 8
    config.duration = '40 steps'
    config.optimizer.warmup = '0 steps'
    config.model.stochastic_depth_rate = 0.5
    return config


@pytest.fixture(scope='module')
def setting():
    mesh = create_mesh(jax.devices()[:1])
    programs = {scan: create_program(config_of(scan), mesh, 1437) for scan in (False, True)}
    likes = {
        scan: shapes_on(jax.eval_shape(program.init), replicated(mesh))
        for scan, program in programs.items()
    }
    random = np.random.default_rng(0)
    batch = to_global(
        {
            'image': random.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8),
            'label': random.integers(0, 10, 8).astype(np.int32),
            'mask': np.ones(8, np.float32),
        },
        mesh,
    )
    return programs, likes, batch


def block_leaves(state, number):
    """Path and values of one block's leaves in all collections, of a state in either layout."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        path = jax.tree_util.keystr(path)
        if f"['block{number}']" in path:
            found[path.replace(f"['block{number}']", '')] = leaf
        elif number > 1 and "['blocks']" in path:
            found[path.replace("['blocks']", '')] = leaf[number - 2]
    return found


def test_back_and_forth_to_the_bit(setting, tmp_path):
    """Looped -> stored -> unrolled -> stored -> looped: weights, EMA and momentum of all blocks."""
    programs, likes, batch = setting
    state, _ = programs[True].train_step(programs[True].init(), batch, {})
    state = jax.device_get(state)
    with Checkpoints(tmp_path / 'a') as checkpoints:
        checkpoints.save(state, RUN)
    with Checkpoints(tmp_path / 'a', read_only=True) as checkpoints:
        unrolled, run = checkpoints.restore(1, likes[False], 0)
        weights = checkpoints.restore_weights(1, likes[True].variables)
    assert run == RUN
    assert 'blocks' not in unrolled.variables['params']['stage1']
    for number in (2, 3):
        there, here = block_leaves(state, number), block_leaves(unrolled, number)
        assert there.keys() == here.keys() and len(there) > 3 * 13
        for path, leaf in there.items():
            np.testing.assert_array_equal(leaf, here[path], err_msg=path)
    with Checkpoints(tmp_path / 'b') as checkpoints:
        checkpoints.save(unrolled, RUN)
    with Checkpoints(tmp_path / 'b', read_only=True) as checkpoints:
        again, _ = checkpoints.restore(1, likes[True], 0)
    for a, b in ((state, again), (state.variables, weights['raw']), (state.ema, weights['ema'])):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_goes_on_in_the_other_layout(setting, tmp_path):
    """A step of both layouts from one checkpoint: metrics and state agree within float32."""
    programs, likes, batch = setting
    state, _ = programs[False].train_step(programs[False].init(), batch, {})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, RUN)
    results = {}
    for scan, program in programs.items():
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            state, _ = checkpoints.restore(1, likes[scan], 0)
        results[scan] = jax.device_get(program.train_step(state, batch, {}))
    (unrolled, metrics), (looped, looped_metrics) = results[False], results[True]
    assert metrics.keys() == looped_metrics.keys()
    for name in metrics:
        assert metrics[name] == pytest.approx(looped_metrics[name], rel=1e-3), name
    for number in (1, 2, 3):
        here, there = block_leaves(unrolled, number), block_leaves(looped, number)
        assert here.keys() == there.keys()
        for path, leaf in here.items():
            np.testing.assert_allclose(there[path], leaf, rtol=2e-3, atol=1e-3, err_msg=path)


def test_ema_weights_are_read_without_the_raw_ones(tmp_path):
    """The raw weights are of another network, so that reading them would fail."""
    config = config_of(False)
    variables = init_variables(model_of(config, batch_norm_group_size=None), 32)
    everywhere = jax.device_put(variables, replicated(create_mesh()))
    write_config(tmp_path, config)
    with Checkpoints(tmp_path) as checkpoints:
        raw = {'params': {'other': np.ones(3, np.float32)}}
        checkpoints.save_weights({'raw': raw, 'ema': everywhere}, RUN)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        alone = checkpoints.restore_weights(0, variables, ('ema',))
        for_fine_tuning = checkpoints.restore_for_fine_tuning(0, everywhere, range(10))
        with pytest.raises(UserError, match='another architecture'):
            checkpoints.restore_weights(0, variables)
    _, _, to_predict = load_workdir(tmp_path, 'ema')
    assert alone.keys() == {'ema'}
    for found in (alone['ema'], for_fine_tuning, to_predict):
        assert jax.tree.structure(found) == jax.tree.structure(variables)
        jax.tree.map(np.testing.assert_array_equal, found, variables)
    # Weights of a run on eight devices are for a machine with one as well.
    devices = {device for leaf in jax.tree.leaves(to_predict) for device in leaf.devices()}
    assert devices == {jax.devices()[0]}


def test_reading_changes_nothing_and_says_nothing(tmp_path, caplog):
    like = {'params': {'kernel': np.ones(3, np.float32)}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_weights({'raw': like, 'ema': like}, RUN)
    (tmp_path / 'checkpoints' / '1.orbax-checkpoint-tmp').mkdir()  # a run may be writing it
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    caplog.clear()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [0]
        checkpoints.restore_weights(checkpoints.find('last'), like)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before
    assert [record.getMessage() for record in caplog.records if record.levelname != 'INFO'] == []


def test_the_settings_may_change_when_a_run_is_taken_up_again(tmp_path):
    write_config(tmp_path, config_of(False))
    (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
    other = config_of(True)
    other.model.remat = 'block'
    preflight.check_workdir(other, tmp_path)
    other.model.width_multiplier = 2.0
    with pytest.raises(UserError, match='width_multiplier'):
        preflight.check_workdir(other, tmp_path)
