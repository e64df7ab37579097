"""Parameters that do not learn keep their bits, their statistics and no optimiser state."""

import functools
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers import prepared
from helpers.input_batches import batch_of
from helpers.whole_runs import train_until_killed, without_time

import train_lib
from configs import digits
from resnet_rs.config import default_config
from resnet_rs.config.trainable import covers, phases_of
from resnet_rs.models import init_variables
from resnet_rs.training.networks import model_of
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.training.steps import batch_shapes, create_program
from resnet_rs.training.trainable import create_phases
from resnet_rs.utils.errors import UserError

EXAMPLES = 1437


def small_config(trainable='all', **settings):
    config = digits.get_config('debug').unlock()
    config.model.stage_sizes = (1, 2)
    config.model.batch_norm_group_size = -1
    config.model.stochastic_depth_rate = 0.5
    config.duration = '8 steps'
    config.optimizer.warmup = '0 steps'
    config.trainable = trainable
    config.update_from_flattened_dict(settings)
    return config


def run(config, devices=1, steps=1):
    """Returns (state before, state after each step, metrics of each), on the host."""
    mesh = create_mesh(jax.devices()[:devices])
    program = create_program(config, mesh, EXAMPLES)
    batch, state = to_global(batch_of(), mesh), program.init()
    states, history = [jax.device_get(state)], []
    for _ in range(steps):
        state, metrics = program.train_step(state, batch, {})
        states.append(jax.device_get(state))
        history.append(jax.device_get(metrics))
    return states, history


def changed(before, after):
    """The names of the leaves that differ."""
    before, after = flatten_dict(before, sep='/'), flatten_dict(after, sep='/')
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}


def names_of_state(opt_state):
    """The names of the parameters that have optimiser state."""
    found = set()
    for path, _ in jax.tree_util.tree_flatten_with_path(opt_state)[0]:
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        found |= {'/'.join(names)} if names else set()
    return found


@pytest.mark.parametrize(
    'text, phases',
    [
        ('all', (('all', ''),)),
        ('head until 50 epochs, then all', (('head', '50 epochs'), ('all', ''))),
        (
            'head until 5 epochs, then from stage 3 until 1.5 epochs, then .*norm',
            (('head', '5 epochs'), ('from stage 3', '1.5 epochs'), ('.*norm', '')),
        ),
        ('stage[34],head', (('stage[34],head', ''),)),
    ],
)
def test_the_notation(text, phases):
    assert phases_of(text) == phases


@pytest.mark.parametrize(
    'which, covered',
    [
        ('all', 'stem/conv1/kernel stage2/block1/norm1/scale stage3/block1/conv1/kernel head/bias'),
        ('head', 'head/bias'),
        ('from stage 3', 'stage3/block1/conv1/kernel head/bias'),
        ('stage[23]', 'stage2/block1/norm1/scale stage3/block1/conv1/kernel'),
        ('.*norm', 'stage2/block1/norm1/scale'),
        ('block1', ''),
    ],
)
def test_what_a_text_covers(which, covered):
    names = 'stem/conv1/kernel stage2/block1/norm1/scale stage3/block1/conv1/kernel head/bias'
    assert [name for name in names.split() if covers(which, name)] == covered.split()


@pytest.mark.parametrize(
    'trainable, devices, settings',
    [
        ('head', 1, {}),
        ('from stage 2', 8, {'sharding.strategy': 'fsdp', 'sharding.replicate_below': 0}),
        ('.*stage2/block2/(conv2|norm3)|head', 1, {'optimizer.accumulation_steps': 3}),
        ('from stage 2', 1, {'model.scan_blocks': True, 'model.stage_sizes': (2, 3)}),
        ('from stage 2', 1, {'optimizer.name': 'adam', 'model.remat': 'block'}),
    ],
)
def test_frozen_parameters_and_statistics_keep_their_bits(trainable, devices, settings):
    if 'optimizer.accumulation_steps' in settings:
        settings = settings | {'batch_size': 15}
    config = small_config(trainable, **settings)
    batch = {name: value[: config.batch_size] for name, value in batch_of().items()}
    mesh = create_mesh(jax.devices()[:devices])
    program = create_program(config, mesh, EXAMPLES)
    state = program.init()
    before = jax.device_get(state)
    for _ in range(2):
        state, _ = program.train_step(state, to_global(batch, mesh), {})
    after = jax.device_get(state)

    pattern = {'head': 'head', 'from stage 2': 'stage2|head'}.get(trainable, trainable)
    names = flatten_dict(before.variables['params'], sep='/')
    learning = {name for name in names if re.match(pattern, name)}
    assert learning and len(learning) < len(names)
    moved = changed(before.variables['params'], after.variables['params'])
    assert moved <= learning
    assert {name.split('/')[0] for name in moved} == {name.split('/')[0] for name in learning}
    assert names_of_state(after.opt_state) == learning
    norms = {name.removesuffix('/scale') for name in learning if name.endswith('norm3/scale')}
    statistics = changed(before.variables['batch_stats'], after.variables['batch_stats'])
    modules = {name.rpartition('/')[0] for name in statistics}
    assert norms <= modules
    assert all(any(each.startswith(f'{module}/') for each in learning) for module in modules)
    assert changed(before.ema['params'], after.ema['params']) <= learning
    assert changed(before.ema['batch_stats'], after.ema['batch_stats']) <= statistics


def test_a_frozen_backbone_computes_the_features_of_evaluation():
    """The first loss is the cross entropy of the head on the pooled features in evaluation mode."""
    config = small_config('head', **{'model.dropout_rate': 0.0, 'optimizer.label_smoothing': 0.0})
    states, history = run(config)
    variables = jax.tree.map(np.asarray, states[0].variables)
    batch = batch_of()
    images = (batch['image'] - np.array(config.data.mean_rgb)) / np.array(config.data.std_rgb)
    model = model_of(config, batch_norm_group_size=None)
    logits = np.asarray(model.apply(variables, images.astype(np.float32), False), np.float64)
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(16), batch['label']]
    assert history[0]['loss'] == pytest.approx(losses.mean(), rel=1e-5)


def test_statistics_of_the_batch_move_where_that_is_asked_for():
    states, _ = run(small_config('head', frozen_statistics='batch'))
    before, after = states
    assert changed(before.variables['params'], after.variables['params']) == {
        'head/kernel',
        'head/bias',
    }
    moved = changed(before.variables['batch_stats'], after.variables['batch_stats'])
    assert moved == set(flatten_dict(before.variables['batch_stats'], sep='/'))


@pytest.mark.parametrize('name', ['sgd', 'adam'])
def test_a_phase_ends_at_its_step_and_the_next_one_starts_with_a_new_optimiser(name):
    config = small_config('head until 2 steps, then all', **{'optimizer.name': name})
    states, _ = run(config, steps=3)
    head = {'head/kernel', 'head/bias'}
    for before, after in zip(states[:2], states[1:3], strict=True):
        assert changed(before.variables['params'], after.variables['params']) == head
    before, after = states[2:]
    assert len(changed(before.variables['params'], after.variables['params'])) > 10
    alone, _ = run(small_config('head', **{'optimizer.name': name}), steps=2)
    for part in ('variables', 'ema'):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            getattr(states[2], part),
            getattr(alone[2], part),
        )
    for path, leaf in jax.tree_util.tree_flatten_with_path(after.opt_state)[0]:
        last = str(path[-1])
        if last == '.count' and leaf.ndim == 0:
            # Adam's count begins again with the phase; that of the schedule continues.
            is_schedule = 'ScaleByScheduleState' in str(type(after.opt_state[path[0].idx]))
            assert leaf == (3 if is_schedule else 1)


def test_the_backward_pass_ends_at_the_first_module_that_learns():
    """Multiplications of the compiled program: training the head alone costs little more than
    evaluation, training the last stage less than training everything."""

    def flops(trainable):
        program = create_program(small_config(trainable), create_mesh(jax.devices()[:1]), EXAMPLES)
        batch = batch_shapes(small_config(), 'train')
        return program.train_step.lower(program.state, batch, {}).compile().cost_analysis()['flops']

    config = small_config()
    model = model_of(config, batch_norm_group_size=None)
    variables = jax.eval_shape(lambda: init_variables(model, 32))
    images = jax.ShapeDtypeStruct((16, 32, 32, 3), np.float32)
    forward = jax.jit(lambda v, x: model.apply(v, x, False)).lower(variables, images).compile()
    forward = forward.cost_analysis()['flops']
    found = {which: flops(which) for which in ('head', 'from stage 2', 'all')}
    assert found['head'] < 1.3 * forward < found['from stage 2'] < 0.9 * found['all']


@pytest.mark.usefixtures('one_stage', 'shared_programs', 'no_report')
def test_a_run_of_two_phases_resumes_with_its_bits(tmp_path, caplog):
    config = digits.get_config('debug').unlock()
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.duration, config.eval.every, config.checkpoint.every = '6 steps', '6 steps', '2 steps'
    config.trainable = 'head until 3 steps, then all'
    caplog.set_level('INFO', 'absl')
    whole = train_lib.train_and_evaluate(config, str(tmp_path / 'whole'))
    said = [record.getMessage() for record in caplog.records]
    assert any(
        re.match(r'trainable: head, .* parameters until step 3; frozen: ', line) for line in said
    )
    for step in (2, 4):
        train_until_killed(config, tmp_path / 'killed', step)
    resumed = train_lib.train_and_evaluate(config, str(tmp_path / 'killed'))
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, (resumed, whole)))
    assert without_time(tmp_path / 'killed') == without_time(tmp_path / 'whole')


@pytest.mark.parametrize(
    'trainable, settings, message',
    [
        (
            'stage9',
            {},
            "trainable is 'stage9', which matches no parameter; the network has head, st",
        ),
        ('from stage 3', {}, 'matches no parameter; the network has stages 1 to 2'),
        (
            'stage2/block2',
            {'model.scan_blocks': True, 'model.stage_sizes': (1, 3)},
            'separates blo',
        ),
        (
            'head until 9 steps, then all',
            {},
            "'head' would end after step 9 and begins after step 0",
        ),
        (
            'head until 3 steps, then all until 2 steps, then head',
            {},
            "'all' would end after step 2",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_line(trainable, settings, message):
    config = small_config(trainable, **settings)
    with pytest.raises(UserError) as error:
        create_program(config, create_mesh(jax.devices()[:1]), EXAMPLES)
    assert message in str(error.value) and '\n' not in str(error.value)


def test_the_whole_network_of_the_paper_learns_in_one_phase():
    config = default_config()
    shapes = jax.eval_shape(lambda: init_variables(model_of(config), 64))
    (phase,) = create_phases(config, shapes['params'], 100, EXAMPLES).phases
    assert len(phase.learning) == len(jax.tree.leaves(shapes['params']))
    assert not phase.frozen_modules and phase.end is None
