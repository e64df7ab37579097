"""The studies on Fashion-MNIST: what their sweeps hold, and their runs on digits as a stand-in."""

import functools
import pathlib

import pytest
from helpers import prepared

import train_lib
from resnet_rs import probe, pseudo_label, study
from resnet_rs.config.validation import check_settings
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.models import init_variables
from resnet_rs.run import certainty, report
from resnet_rs.run.workdir import write_workdir
from resnet_rs.sweep.definition import Command, check_runs, load_attribute, load_sweep
from resnet_rs.training import probes
from resnet_rs.training.evaluation import write_predictions
from resnet_rs.training.networks import model_of
from resnet_rs.utils.errors import UserError

SWEEPS = pathlib.Path(__file__).parents[2] / 'configs' / 'sweeps'
# sweep: (runs, commands among them, seeds)
STUDIES = {
    'few_labels': (40, 10, 5),
    'distillation': (13, 0, 3),
    'transfer': (65, 15, 5),
    'network': (1, 0, 1),
    'additive': (33, 0, 3),
    'torch': (15, 0, 15),
}
MAINS = {'pseudo_label': pseudo_label.main, 'probe': probe.main}
# What the stand-in has in place of the splits of Fashion-MNIST.
SPLITS = {
    'train[:55000]': 'train[:400]',
    ', 100 per class': ', 10 per class',
    'except 100 per class': 'except 10 per class',
}
TINY = {
    'batch_size': 16,
    'duration': '2 steps',
    'model.width_multiplier': 0.125,
    'data.name': 'digits',
    'data.image_size': 16,
    'optimizer.warmup': '1 steps',
    'eval.batch_size': 40,
    'checkpoint.every': '2 steps',
}


def sweep_file(name):
    return SWEEPS / f'fashion_{name}.py'


def stand_in(step):
    """A run of a few steps of a tiny network on digits, otherwise like `step`."""
    if isinstance(step, Command):
        return Command(step.module, tuple(map(other_split, step.arguments)), step.output)
    config = step.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(TINY)
    config.data.data_dir = prepared.data_dir('digits', 'array_record')
    config.data.train_split = other_split(config.data.train_split)
    config.data.eval_split = 'validation[:80]'
    if config.pseudo_labels.per_class:
        config.pseudo_labels.per_class = 30
        config.pseudo_labels.least_confidence = 0.01  # of a random network
    config.trainable = config.trainable.replace('300 steps', '1 steps')
    return config.lock()


def other_split(text):
    for old, new in SPLITS.items():
        text = text.replace(old, new)
    return text.replace('--test=test', '--test=validation[:80]')


@pytest.mark.parametrize('name', STUDIES)
def test_what_a_sweep_holds(name):
    runs, commands, seeds = STUDIES[name]
    pairs = load_sweep(sweep_file(name), '/sweep')
    assert len(pairs) == runs
    assert sum(isinstance(step, Command) for _, step in pairs) == commands
    for _, step in pairs:
        if not isinstance(step, Command):
            check_settings(step)
            assert step.data.eval_split == 'test' and not step.evals  # evaluated once, at the end
    rows = load_attribute(sweep_file(name), 'STUDY').rows
    assert {row.against for row in rows} - {''} <= {row.name for row in rows}
    names = {name for name, _ in pairs}
    for row in rows:
        of_row = [f'{row.name}-seed{seed}' in names for seed in range(seeds)]
        assert all(of_row) or row.name in ('teacher', 'torch'), row


def test_the_iterated_student_learns_from_the_one_before():
    pairs = load_sweep(SWEEPS / 'iterated_student.py', '/sweep')
    names = [name for name, _ in pairs]
    assert names == ['teacher', *(f'{a}{k}' for k in (1, 2, 3) for a in ('labels', 'student'))]
    for place, (_, step) in enumerate(pairs[1:], 1):
        if isinstance(step, Command):
            assert step.arguments[0] == f'--workdir=/sweep/{names[place - 1]}'
        else:
            check_settings(step)
            assert step.pseudo_labels.file == f'/sweep/{names[place - 1]}/labels.npz'


def test_settings_are_chosen_without_the_test_images():
    pairs = load_sweep(sweep_file('settings'))
    for _, config in pairs:
        check_settings(config)
        splits = config.data.train_split, config.data.eval_split
        assert splits == ('train[:55000]', 'train[55000:]') and not config.evals
    assert len({str(config) for _, config in pairs}) == len(pairs)


def test_the_rows_of_the_additive_study_change_one_thing_each():
    pairs = dict(load_sweep(sweep_file('additive')))
    last = pairs['resnet_d-seed0']
    assert last.model.name == 'resnet_rs_14' and last.optimizer.weight_decay == 2e-4
    assert last.optimizer.schedule == 'cosine' and last.duration == '36 epochs'
    assert pairs['ema-seed0'].model.batch_norm_momentum == 0 < pairs['ema-seed0'].ema.decay
    assert pairs['baseline-seed2'].data.augment == 'none'


@pytest.fixture
def predictions_alone(monkeypatch):
    """A run draws nothing at its end."""

    def write(workdir, config, evaluation, *others):
        write_predictions(pathlib.Path(workdir) / 'predictions.npz', evaluation)
        return []

    monkeypatch.setattr(report, 'write', write)
    monkeypatch.setattr(certainty, 'write', lambda *arguments: [])


# The first run of each is a network with random weights.
CHOSEN = {
    'few_labels': ('supervised', 'labels', 'noisy_student_1'),
    'distillation': ('teacher', 'bag_of_tricks'),
    'transfer': ('source', 'unfreeze_10', 'probe_10'),
}


def write_network(run):
    model = model_of(run.config, batch_norm_group_size=None)
    variables = init_variables(model, run.config.data.image_size)
    write_workdir(run.directory, run.config, {'raw': variables, 'ema': variables})
    names = find_dataset(run.config.data).class_names
    (pathlib.Path(run.directory) / 'class_names.txt').write_text('\n'.join(names) + '\n')


@pytest.mark.usefixtures('one_stage', 'predictions_alone')
@pytest.mark.parametrize('name', CHOSEN)
def test_runs_of_a_sweep_start_from_each_other(name, monkeypatch, tmp_path):
    wanted = [f'{row}-seed0' for row in CHOSEN[name]]
    pairs = dict(load_sweep(sweep_file(name), str(tmp_path)))
    pairs = [(each, stand_in(pairs[each])) for each in wanted]
    runs = check_runs(pairs, str(tmp_path))
    assert runs[1].needs == (wanted[0],)
    with pytest.raises(UserError, match='which no run of the sweep before it makes'):
        check_runs(pairs[1:], str(tmp_path))
    logistic = functools.partial(probes.logistic, values=(1.0,))
    monkeypatch.setattr(probes, 'logistic', logistic)
    write_network(runs[0])
    for run in runs[1:]:
        pathlib.Path(run.directory).mkdir()
        if run.command:
            output = f'--output={run.directory}/{run.command.output}'
            MAINS[run.command.module]([*run.command.arguments, output])
        else:
            state = train_lib.train_and_evaluate(run.config, run.directory)
            assert int(state.step) == run.total_steps == 2
    study.main(
        [f'--sweep={sweep_file(name)}', f'--workdir={tmp_path}', f'--output={tmp_path}/page']
    )
    text = (tmp_path / 'page' / 'README.md').read_text()
    row = {'few_labels': 'Noisy Student, first', 'transfer': '10 per class: ridge'}
    row = row.get(name, 'Bag of Tricks, short')
    assert f'| {row} | 1 | ' in text and 'not run' in text and '**Not finished: ' in text
