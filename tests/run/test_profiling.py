"""Tests of which steps are traced; test_sharding.py reads the trace of a real run."""

import contextlib

import pytest

from resnet_rs.config.command_line import parse_steps
from resnet_rs.run import profiling
from resnet_rs.run.profiling import Profile
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize('text', ['100', '110:100', '0:3', '1:', '1:2:3', '-1:4', 'a:b'])
def test_what_is_no_range_of_steps(text):
    with pytest.raises(UserError, match='write the first and the last step'):
        parse_steps(text)


def test_ranges_of_steps(tmp_path):
    assert parse_steps('') is None
    assert parse_steps('7:7') == (7, 7)
    with pytest.raises(UserError, match='is 5:21, but the run has 20 steps'):
        Profile((5, 21), tmp_path, 20)


@pytest.mark.parametrize(
    ('steps', 'run', 'expected'),
    [
        ((3, 4), range(1, 7), [(3, 4)]),
        ((5, 6), range(1, 7), [(5, 6)]),  # until the end of the run
        ((3, 6), range(1, 5), [(3, 'the run')]),  # stopped within
        ((2, 5), range(4, 7), [(4, 5)]),  # resumed within
        ((2, 3), range(4, 7), []),  # resumed after
        (None, range(1, 7), []),
    ],
)
def test_traces_begin_and_end_with_the_steps(monkeypatch, tmp_path, steps, run, expected):
    log = []

    class Trace:
        def __init__(self, directory):
            pass

        def __enter__(self):
            log.append(f'begins before {step}')

        def __exit__(self, *exception):
            log.append(f'ends after {step}')
            raise Ended

    class Ended(Exception):
        """Stands in for the file that the trace would be written to."""

    monkeypatch.setattr(profiling.jax.profiler, 'trace', Trace)
    try:
        with Profile(steps, tmp_path, 6) as profile:
            for step in run:
                profile.before(step, ())
                profile.after(step, ())
            step = 'the run'
    except Ended:
        pass
    assert log == [
        line
        for first, last in expected
        for line in (f'begins before {first}', f'ends after {last}')
    ]


def test_the_annotation_of_a_step_ends_with_it(monkeypatch, tmp_path):
    log = []

    @contextlib.contextmanager
    def annotation(name, step_num):
        log.append(f'step {step_num} begins')
        yield
        log.append(f'step {step_num} ends')

    monkeypatch.setattr(profiling.jax.profiler, 'StepTraceAnnotation', annotation)
    monkeypatch.setattr(profiling, '_written_into', lambda *_: contextlib.nullcontext())
    with Profile((2, 3), tmp_path, 3) as profile:
        for step in range(1, 4):
            profile.before(step, ())
            profile.after(step, ())
    assert log == ['step 2 begins', 'step 2 ends', 'step 3 begins', 'step 3 ends']
