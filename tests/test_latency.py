"""The latency command: arithmetic of a measurement, batch halving, the device's clock, the CSV."""

import csv
import sys

import jax
import numpy as np
import pytest

from configs import digits, moving_digits
from resnet_rs import latency
from resnet_rs.config.stored import write_config
from resnet_rs.latency import Measurement, append, check_file, measure, module_milliseconds
from resnet_rs.utils.errors import UserError

# What a TPU's profiler writes: times in picoseconds; the line of operations is not that of steps.
TRACE = """
planes {
  name: "/device:TPU:0"
  event_metadata { key: 1 value { id: 1 name: "jit_train_step(123)" } }
  event_metadata { key: 2 value { id: 2 name: "fusion.7" } }
  lines { name: "XLA Modules"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 70000000000 }
    events { metadata_id: 1 offset_ps: 80000000000 duration_ps: 71500000000 } }
  lines { name: "XLA Ops" events { metadata_id: 2 duration_ps: 5000000 } }
}
planes {
  name: "/host:CPU"
  event_metadata { key: 1 value { id: 1 name: "jit_train_step(123)" } }
  lines { name: "XLA Modules" events { metadata_id: 1 duration_ps: 99000000000 } }
}
"""


def test_the_clock_of_the_device():
    profile = jax.profiler.ProfileData.from_text_proto(TRACE)
    assert module_milliseconds(profile) == [70, 71.5]


class Clock:
    """Every step takes the next of `seconds`; the warm-up does not count."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, iter(seconds)

    def perf_counter(self):
        return self.now

    def step(self):
        self.now += next(self.seconds)
        return np.zeros(())


def stand_in(monkeypatch, fits, seconds):
    """Steps of given durations in place of the network's; batches up to `fits` fit."""
    clock, tried = Clock(seconds), []
    monkeypatch.setattr(latency.time, 'perf_counter', clock.perf_counter)
    monkeypatch.setattr(latency, 'device_milliseconds', lambda run, steps: None)

    def prepare(config, step, batch_size):
        tried.append(batch_size)
        if batch_size > fits:
            raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Ran out of memory in hbm')
        return clock.step, 12.5, None

    monkeypatch.setattr(latency, 'prepare', prepare)
    return tried


def test_the_numbers_of_a_measurement(monkeypatch):
    warm_up, blocks = [9.0], [[0.1, 0.3], [0.2, 0.4], [0.5, 0.7], [0.1, 0.1], [0.8, 1.2]]
    tried = stand_in(monkeypatch, 32, [*warm_up, *sum(blocks, [])])
    result = measure(digits.get_config(), 'train', warm_up_steps=1, blocks=5, steps_per_block=2)
    assert tried == [128, 64, 32]
    assert (result.batch_size, result.compile_seconds) == (32, 12.5)
    # The blocks' means are 0.2, 0.3, 0.6, 0.1 and 1.0 seconds.
    times = [
        result.minimum_ms,
        result.lower_quartile_ms,
        result.median_ms,
        result.upper_quartile_ms,
    ]
    np.testing.assert_allclose(times, [100, 200, 300, 600])
    assert result.median_ms_per_128_images == pytest.approx(1200)
    assert result.images_per_second == pytest.approx(32 / 0.3)
    assert '  1,200.0 ms per 128 clips, 107 clips/s' in latency.describe(result, 'clip')


def test_a_program_that_never_fits(monkeypatch):
    tried = stand_in(monkeypatch, 0, [])
    with pytest.raises(UserError, match='not even for 1 image'):
        measure(digits.get_config(), 'train', batch_size=3)
    assert tried == [3, 1]
    with pytest.raises(UserError, match='not even for 1 clip'):
        measure(moving_digits.get_config(), 'train', batch_size=1)
    micro_batches = digits.get_config().unlock()
    micro_batches.optimizer.accumulation_steps = 4
    with pytest.raises(UserError, match='not even for 4 images'):
        measure(micro_batches, 'train', batch_size=16)
    assert tried[-3:] == [16, 8, 4]


def test_rows_are_added_and_other_files_left_alone(tmp_path):
    row = Measurement(**{name: f'{name}, "quoted"' for name in Measurement.__dataclass_fields__})
    path = tmp_path / 'latency.csv'
    for _ in range(2):
        check_file(path)
        append(path, row)
    with path.open(newline='') as file:
        assert list(csv.DictReader(file)) == [vars(row)] * 2
    other = tmp_path / 'other.csv'
    other.write_text('date,step\n1,2\n')
    with pytest.raises(UserError, match='other columns'):
        check_file(other)
    other.write_bytes(b'\xff\xfe\n')
    with pytest.raises(UserError, match='other columns'):
        check_file(other)
    with pytest.raises(UserError, match='does not exist'):
        check_file(tmp_path / 'absent' / 'latency.csv')


@pytest.fixture
def compilation_cache():
    """The command switches it off for its process."""
    yield
    jax.config.update('jax_enable_compilation_cache', True)


def test_the_command_on_this_machine(monkeypatch, tmp_path, capsys, compilation_cache):
    """Inference alone: the step compiles in a fraction of training's."""
    path = tmp_path / 'latency.csv'
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'latency',
            '--config=configs/digits.py:debug',
            '--config.data.image_size=16',
            '--batch_size=2',
            '--blocks=3',
            '--steps_per_block=2',
            '--warm_up_steps=1',
            '--steps=inference',
            f'--output={path}',
        ],
    )
    latency.main(sys.argv)
    with path.open(newline='') as file:
        (row,) = csv.DictReader(file)
    assert (row['config'], row['step'], row['dtype']) == (
        'configs/digits.py:debug',
        'inference',
        'float32',
    )
    assert (row['batch_size'], row['image_size'], row['device_ms']) == ('2', '16', '')
    assert 0 < float(row['minimum_ms']) <= float(row['median_ms'])
    assert float(row['compile_seconds']) > 0
    output, notes = capsys.readouterr()
    assert 'on the device' not in output  # a CPU records no time of its own
    assert output.startswith('inference of configs/digits.py:debug: batch 2, float32 on cpu\n')
    assert max(map(len, output.splitlines()[:3])) <= 80
    # Nothing on the schedule of a run that does not exist.
    assert notes == 'compiling and timing inference of configs/digits.py:debug\n'


def test_the_network_of_a_run(monkeypatch, tmp_path, capsys, compilation_cache):
    write_config(tmp_path / 'run', digits.get_config('debug'))
    seen = []

    def measure(config, step, *, name, **settings):
        seen.append((config.model.width_multiplier, config.data.image_size, step, name))
        raise UserError('measured')

    monkeypatch.setattr(latency, 'measure', measure)
    for arguments, message in (
        (
            [f'--workdir={tmp_path}/run', '--image_size=48', '--config.model.width_multiplier=0.5'],
            'measured',
        ),
        ([f'--workdir={tmp_path}/none'], f'no run is in {tmp_path}/none'),
    ):
        arguments = ['latency', *arguments, f'--output={tmp_path}/latency.csv']
        monkeypatch.setattr(sys, 'argv', arguments)  # where ml_collections looks for overrides
        with pytest.raises(SystemExit):
            latency.main(arguments)
        assert message in capsys.readouterr().err
    assert seen == [(0.5, 48, 'inference', f'{tmp_path}/run')]


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ('--config=configs/absent.py', 'configs/absent.py is not a file'),
        ('--config=configs/digits.py:none', "no variant 'none'"),
        ('--config.batch_sise=3', "no setting 'batch_sise'"),
        ('--batch_size=0', 'batch_size'),
        ('--dtype=float8', 'dtype'),
        ('--steps=', '--steps is empty'),
        ('--workdir=runs/a', '--workdir and --config both name a network'),
        ('--steps=eval', "--steps has 'eval'; there are inference and train"),
        ('--step=train', 'Did you mean: steps'),
        ('--image_size=8', 'data.image_size is 8'),
        ('digits', "'digits' is not a flag"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, argument, message):
    arguments = ['latency', '--config=configs/digits.py', argument]
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit) as end:
        latency.main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().split('\n')
    assert line.startswith('error: ') and message in line
