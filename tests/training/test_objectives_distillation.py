"""Distillation: the published numbers, a teacher that stays as it is, and whole runs."""

import functools
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import prepared
from helpers.input_batches import batch_of
from helpers.whole_runs import train_until_killed, without_time

import train_lib
from configs import digits, distillation
from resnet_rs.config import default_config
from resnet_rs.config.validation import check_settings
from resnet_rs.models import init_variables
from resnet_rs.plan import report
from resnet_rs.plan.planning import Options, make_plan
from resnet_rs.run.checkpoint import Checkpoints
from resnet_rs.run.run_log import read_metrics
from resnet_rs.run.teacher import TEACHER_FILE, load_teacher, place_frozen, weights_digest
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training import objectives
from resnet_rs.training.networks import model_of
from resnet_rs.training.objectives import create_objective, entropy, teacher_loss
from resnet_rs.training.sharding import bytes_per_device, create_mesh, to_global
from resnet_rs.training.steps import batch_shapes, create_program
from resnet_rs.training.teacher import create_teacher
from resnet_rs.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('one_stage', 'shared_programs')

EXAMPLES = 1437
OTHER_INPUT = {
    'data.image_size': 40,
    'data.mean_rgb': (100.0, 110.0, 120.0),
    'data.std_rgb': (50.0, 60.0, 70.0),
}


def teacher_config(**settings):
    """Another family of networks than the student's, in another dtype."""
    config = digits.get_config('debug').unlock()
    config.model.name = 'resnet_14'
    config.model.dtype = 'bfloat16'
    config.update_from_flattened_dict(settings)
    return config


def write_teacher(directory, seed=0, change=lambda leaf: leaf, classes=10, **settings):
    """A work directory of random weights, whose raw weights are others than its EMA weights."""
    config = teacher_config(**settings)
    config.model.num_classes = classes
    variables = init_variables(model_of(config, batch_norm_group_size=None), 32, seed)
    random = np.random.default_rng(seed)
    ema = jax.tree.map(
        lambda leaf: change(leaf + 0.1 * np.abs(random.normal(size=leaf.shape)).astype(leaf.dtype)),
        variables,
    )
    write_workdir(directory, config, {'raw': variables, 'ema': ema})
    names = ''.join(f'{number}\n' for number in range(classes))
    (directory / 'class_names.txt').write_text(names)
    return directory


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp('teacher') / 'run')


@pytest.fixture(scope='module')
def teacher_of_other_input(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp('teacher') / 'other', **OTHER_INPUT)


def small_config(teacher, **settings):
    config = digits.get_config('debug').unlock()
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.model.batch_norm_group_size = 4
    config.duration = '6 steps'
    config.eval.every = '6 steps'
    config.checkpoint.every = '2 steps'
    config.optimizer.warmup = '0 steps'
    config.objective = 'distillation'
    config.distillation.teacher = str(teacher)
    config.update_from_flattened_dict(settings)
    return config


def run(config, devices=1, steps=2):
    """Returns the state after `steps` on one batch, the metrics of the last, and the teacher."""
    mesh = create_mesh(jax.devices()[:devices])
    program = create_program(config, mesh, EXAMPLES)
    frozen = place_frozen(program, load_teacher(config, 'nowhere'))
    batch = to_global(batch_of(), mesh)
    state = program.init()
    for _ in range(steps):
        state, metrics = program.train_step(state, batch, frozen)
    return jax.device_get((state, metrics, frozen))


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_published_numbers():
    """z = (1, 2, 3, .5), label 2, teacher (0, 1, 4, -1), T = 20: Bag of Tricks and GluonCV."""
    with jax.enable_x64(True):
        student, target = jnp.array([[1.0, 2.0, 3.0, 0.5]]), jnp.array([[0.0, 1.0, 4.0, -1.0]])
        hard = float(objectives.smoothed_cross_entropy(student, jnp.array([2]), 0.0)[0])
        soft = float(teacher_loss(student, target, 'cross_entropy', 20.0)[0])
        divergence = float(teacher_loss(student, target, 'kl', 20.0)[0])
        prediction = float(teacher_loss(student, target, 'hard')[0])
    assert soft == pytest.approx(553.1883179004, abs=1e-9)
    assert hard + soft == pytest.approx(553.6490913896, abs=1e-9)
    assert 0.5 * hard + 0.5 * soft == pytest.approx(276.8245456949, abs=1e-9)
    assert divergence == pytest.approx(0.4913093284, abs=1e-9)
    assert prediction == pytest.approx(0.4607734892, abs=1e-9)  # of label 2, the teacher's


def test_entropy_of_a_uniform_and_of_a_certain_teacher():
    values = entropy(jnp.array([[3.0] * 8, [500.0] + [0.0] * 7]))
    np.testing.assert_allclose(values, [math.log(8), 0], atol=1e-6)


@pytest.mark.parametrize('form', ['kl', 'cross_entropy'])
def test_gradient_of_the_student_is_the_difference_of_probabilities(form):
    student, target = jnp.array([[1.0, 2.0, 3.0, 0.5]]), jnp.array([[0.0, 1.0, 4.0, -1.0]])
    gradient = jax.grad(lambda logits: teacher_loss(logits, target, form, 5.0).sum())(student)
    p, q = (np.exp(np.asarray(v) / 5) / np.exp(np.asarray(v) / 5).sum() for v in (target, student))
    np.testing.assert_allclose(gradient, 5 * (q - p), atol=1e-5)


def test_the_teacher_sees_the_very_images_of_the_student(teacher):
    found = create_teacher(small_config(teacher))
    variables = load_teacher(small_config(teacher), 'nowhere').variables
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    expected = jax.jit(functools.partial(found.network.apply, train=False))(variables, images)
    assert expected.dtype == np.float32 and found.network.architecture.dtype == jnp.bfloat16
    assert_same_bits(jax.jit(found.logits)(variables, images), expected)


def test_a_teacher_of_another_input_gets_resized_pixels_in_its_own_normalisation(
    teacher_of_other_input,
):
    """Starts from mixed pixels: resized, then normalised as the teacher's own images are."""
    config = small_config(teacher_of_other_input, **{'distillation.dtype': 'float32'})
    found = create_teacher(config)
    assert found.image_size == 40
    variables = load_teacher(config, 'nowhere').variables
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    images = (pixels - np.array(config.data.mean_rgb)) / np.array(config.data.std_rgb)
    larger = jax.image.resize(pixels, (4, 40, 40, 3), 'cubic')
    mean, deviation = (np.array(OTHER_INPUT[f'data.{name}']) for name in ('mean_rgb', 'std_rgb'))
    own = jnp.asarray((larger - mean) / deviation, jnp.float32)
    expected = found.network.apply(variables, own, False)
    logits = found.logits(variables, jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_no_gradient_reaches_the_teacher(teacher):
    config = small_config(teacher)
    objective = create_objective(config)
    variables = load_teacher(config, 'nowhere').variables
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))

    def loss(frozen):
        apply = lambda images, rngs: (images.mean((1, 2)) @ jnp.ones((3, 10)), {})  # noqa: E731
        batch = {'image': images, 'label': jnp.arange(4)}
        return objective.losses(apply, batch, {}, frozen)[0].sum()

    gradients = jax.jit(jax.grad(loss))({'teacher': variables})
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


def test_eight_devices_are_one_and_the_teacher_keeps_its_bits(teacher):
    config = small_config(teacher, **{'data.mixup_alpha': 1.0, 'distillation.dtype': 'float32'})
    before = load_teacher(config, 'nowhere').variables
    one, one_metrics, frozen = run(config, 1)
    assert_same_bits(frozen['teacher'], before)
    config.sharding.update({'strategy': 'fsdp', 'replicate_below': 0})
    eight, eight_metrics, frozen = run(config, 8)
    assert_same_bits(frozen['teacher'], before)
    for name, value in one_metrics.items():
        assert value == pytest.approx(eight_metrics[name], rel=1e-3, abs=1e-5), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3),
        one.variables,
        eight.variables,
    )


def test_labels_alone_are_supervised_learning(teacher):
    config = small_config(teacher, **{'distillation.label_weight': 1.0})
    distilled, metrics, _ = run(config)
    config.update_from_flattened_dict({'objective': 'supervised', 'distillation.teacher': ''})
    supervised, expected, frozen = run(config)
    assert frozen == {}
    assert metrics['loss'] == pytest.approx(expected['loss'], rel=1e-6)
    assert metrics['label_loss'] == pytest.approx(expected['loss'], rel=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        distilled.variables,
        supervised.variables,
    )


def test_the_loss_is_the_weighted_sum_of_its_parts(teacher):
    config = small_config(
        teacher, **{'distillation.label_weight': 0.3, 'distillation.temperature': 4.0}
    )
    _, metrics, _ = run(config, steps=1)
    expected = 0.3 * metrics['label_loss'] + 0.7 * metrics['teacher_loss']
    assert metrics['loss'] == pytest.approx(expected, rel=1e-5)


def test_the_teacher_is_an_argument_that_the_memory_check_counts(teacher):
    config = small_config(teacher)
    program = create_program(config, create_mesh(jax.devices()[:1]), EXAMPLES)
    shapes = program.state, batch_shapes(config, 'train'), program.frozen
    compiled = program.train_step.lower(*shapes).compile()
    leaves = jax.tree.leaves((program.state, batch_shapes(config, 'train')))
    others = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    found = load_teacher(config, 'nowhere')
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(found.variables))
    assert bytes_per_device(program.frozen) == weights
    arguments = compiled.memory_analysis().argument_size_in_bytes
    assert arguments == pytest.approx(others + weights, abs=128)  # of alignment


def test_a_run_resumes_with_its_bits_and_with_its_teacher_alone(
    teacher, no_report, monkeypatch, tmp_path
):
    directory = shutil.copytree(teacher, tmp_path / 'teacher')
    config = small_config(directory, **{'data.mixup_alpha': 1.0})
    whole = train_lib.train_and_evaluate(config, str(tmp_path / 'whole'))
    workdir = tmp_path / 'killed'
    train_until_killed(config, workdir, step=4)
    shutil.move(directory, tmp_path / 'kept')
    write_teacher(directory, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(train_lib, 'compile_steps', lambda *arguments: pytest.fail('compiled'))
        with pytest.raises(UserError) as error:
            train_lib.train_and_evaluate(config, str(workdir))
    message = str(error.value)
    assert f'is not the one with which {workdir} was started: its weights changed from' in message
    shutil.rmtree(directory)
    shutil.move(tmp_path / 'kept', directory)
    resumed = train_lib.train_and_evaluate(config, str(workdir))
    assert_same_bits(jax.device_get(resumed), jax.device_get(whole))

    assert without_time(workdir) == without_time(tmp_path / 'whole')
    parts = {'label_loss', 'teacher_loss', 'teacher_top1', 'teacher_agreement', 'teacher_entropy'}
    first = read_metrics(workdir)[0]
    assert parts <= first.keys() and first['kind'] == 'train'

    facts = json.loads((workdir / TEACHER_FILE).read_text())
    with Checkpoints(directory, read_only=True) as source:
        like = jax.tree.map(lambda s: np.empty(s.shape, s.dtype), create_teacher(config).shapes())
        stored = source.restore_weights(0, like)
    assert facts['weights'] == weights_digest(stored['ema']) != weights_digest(stored['raw'])
    names = {path.name for path in (workdir / 'checkpoints' / '6').rglob('*')}
    assert not any('teacher' in name for name in names)


@pytest.mark.parametrize('form', ['kl', 'hard'])
def test_a_teacher_that_is_not_finite_stops_the_run_at_the_first_step(form, no_report, tmp_path):
    directory = write_teacher(tmp_path / 'teacher', change=lambda leaf: leaf * np.float32(np.nan))
    config = small_config(
        directory,
        **{'log.every': '6 steps', 'checkpoint.every': '6 steps', 'distillation.form': form},
    )
    with pytest.raises(FloatingPointError) as error:
        train_lib.train_and_evaluate(config, str(tmp_path / 'run'))
    assert str(error.value).startswith("the teacher's logits are not finite at step 1; check its")
    assert read_metrics(tmp_path / 'run') == []


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'objective': 'distillation'}, 'but distillation.teacher is empty; name the work'),
        ({'distillation.teacher': 'DIR'}, "but objective is 'supervised', which has no teacher"),
        (
            {
                'objective': 'distillation',
                'distillation.teacher': 'DIR',
                'distillation.form': 'hard',
                'distillation.temperature': 2.0,
            },
            "is 2.0, but distillation.form is 'hard', which has none",
        ),
    ],
)
def test_settings_that_disagree(settings, message):
    config = default_config()
    config.update_from_flattened_dict(settings)
    with pytest.raises(UserError) as error:
        check_settings(config)
    assert message in str(error.value)


@pytest.mark.parametrize('row', distillation.ROWS)
def test_rows_are_valid_with_a_teacher_and_need_one(row):
    config = distillation.get_config(row).unlock()
    with pytest.raises(UserError, match='but distillation.teacher is empty'):
        check_settings(config)
    config.distillation.teacher = 'DIR'
    check_settings(config)


def test_rows_have_the_published_settings():
    """T = 20 and half of the labels; KL alone at T = 1, Beta(1, 1) and 0.03 at batch 4096."""
    tricks, funmatch = (distillation.get_config(row) for row in ('bag_of_tricks', 'funmatch'))
    assert (tricks.distillation.temperature, tricks.distillation.label_weight) == (20, 0.5)
    assert tricks.optimizer.learning_rate * tricks.batch_size / 256 == pytest.approx(0.4)
    settings = funmatch.distillation
    assert (settings.form, settings.temperature, settings.label_weight) == ('kl', 1, 0)
    assert (funmatch.data.mixup_alpha, funmatch.optimizer.name) == (1, 'adam')
    peak = funmatch.optimizer.learning_rate * funmatch.batch_size / 256
    assert peak == pytest.approx(0.03)
    assert peak * funmatch.optimizer.weight_decay == pytest.approx(3e-4)


def folder_config(teacher):
    config = prepared.config('image_folder')
    config.model.num_classes = 3
    config.objective, config.distillation.teacher = 'distillation', str(teacher)
    return config


@pytest.mark.parametrize(
    'names, message',
    [
        (None, 'which holds no config.json; name the work directory'),
        (('a', 'b'), 'has 2 classes, but .* has 3; use a teacher of the same classes'),
        (('class0', 'class1', 'x'), "lacks class 'x' and has class 'class2', .* use a teacher of"),
        (('class1', 'class0', 'class2'), "class 0 is 'class1' in the teacher .* but 'class0' in"),
    ],
)
def test_a_teacher_that_cannot_teach_these_classes_is_one_line(names, message, tmp_path):
    directory = tmp_path / 'teacher'
    if names:
        write_teacher(directory, classes=len(names))
        (directory / 'class_names.txt').write_text('\n'.join(names) + '\n')
    with pytest.raises(UserError, match=message) as error:
        train_lib.train_and_evaluate(folder_config(directory), str(tmp_path / 'run'))
    assert '\n' not in str(error.value) and not (tmp_path / 'run').exists()


def test_a_plan_shows_the_share_of_the_teacher(teacher, v3_core):
    """A teacher of the student's kind costs about a third of a step without it: one forward pass
    beside a forward and a backward pass."""
    config = small_config(teacher, **{'model.name': 'resnet_14', 'model.dtype': 'bfloat16'})
    plan = make_plan(config, v3_core, (EXAMPLES, 360), Options())
    step = plan.steps['train']
    weights = load_teacher(config, 'nowhere').variables
    assert step['teacher_bytes'] == sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    share = step['teacher_cycles'] / step['cycles']
    assert 0.1 < share < 0.4
    assert f'the teacher {share:.0%} of it and 0.00 GiB' in report.sentence(plan)


def test_a_teacher_without_a_checkpoint_is_one_line(teacher, tmp_path):
    directory = shutil.copytree(teacher, tmp_path / 'teacher')
    shutil.rmtree(directory / 'checkpoints')
    with pytest.raises(UserError, match='which holds no checkpoint; name the work directory'):
        train_lib.train_and_evaluate(small_config(directory), str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
