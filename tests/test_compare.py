"""Intervals and tests against published examples and formulas written out."""

import json
import math

import numpy as np
import pytest
from etils import epath

from configs import digits
from resnet_rs import compare
from resnet_rs.config.stored import write_config
from resnet_rs.utils.errors import UserError


@pytest.mark.parametrize(
    'right, examples, low, high',
    (
        # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ),
)
def test_wilson_interval(right, examples, low, high):
    interval = compare.wilson_interval(right, examples)
    assert interval == pytest.approx((low, high), abs=5e-5)
    z, p = 1.959963984540054, right / examples
    half = z * math.sqrt(p * (1 - p) / examples + z * z / (4 * examples**2))
    middle, scale = p + z * z / (2 * examples), 1 + z * z / examples
    assert interval == pytest.approx(((middle - half) / scale, (middle + half) / scale), abs=1e-12)


@pytest.mark.parametrize('only_first, only_second', ((0, 0), (1, 0), (3, 9), (9, 3), (10, 10)))
def test_mcnemar_is_an_exact_binomial_test(only_first, only_second):
    first = np.array([True] * only_first + [False] * only_second + [True] * 5 + [False] * 4)
    second = np.array([False] * only_first + [True] * only_second + [True] * 5 + [False] * 4)
    test = compare.mcnemar(first, second)
    assert (test.only_first, test.only_second) == (only_first, only_second)
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    assert test.p_value == pytest.approx(min(1.0, 2 * tail))


def write_run(directory, right, *, first_index=0, **settings):
    directory.mkdir()
    config = digits.get_config('debug').unlock()
    config.update_from_flattened_dict(settings)
    write_config(directory, config)
    right = np.array(right, bool)
    indices = np.arange(first_index, first_index + len(right))
    np.savez(
        directory / 'predictions.npz',
        index=indices,
        label=indices % 10,
        **{
            f'{weights}_{name}': right if name != 'loss' else np.full(len(right), 0.25, np.float32)
            for weights in ('raw', 'ema')
            for name in ('top1', 'top5', 'loss')
        },
    )
    lines = [
        {'step': 5, 'kind': 'train', 'loss': 2.0, 'top1': 0.1},
        {'step': 5, 'kind': 'eval', 'ema_loss': 1.0, 'ema_top1': 0.5},
    ]
    (directory / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return str(directory)


def test_the_report(tmp_path, capsys):
    a = write_run(tmp_path / 'a', [1] * 6 + [0] * 4)
    b = write_run(tmp_path / 'b', [0] + [1] * 9, **{'optimizer.momentum': 0.8})
    compare.main([a, b])
    report = capsys.readouterr().out
    assert '  optimizer.momentum: 0.9 | 0.8\n\n' in report
    assert 'A: top-1 60.00 % [31.27, 83.18]' in report  # the formula above for 6 of 10
    assert 'B - A: +30.00 points; only A right 1, only B right 4, p = 0.375' in report


def test_other_images_are_not_paired(tmp_path):
    a, b = write_run(tmp_path / 'a', [1, 0]), write_run(tmp_path / 'b', [1, 0], first_index=7)
    report = compare.compare(a, b)
    assert 'evaluated on different images: no paired test' in report and 'p =' not in report
    assert 'Settings that differ:\n  none' in report


def test_runs_on_a_bucket(tmp_path, monkeypatch):
    """pathlib would read gs://bucket as gs:/bucket; a folder stands in for the bucket."""
    for name in 'ab':
        write_run(tmp_path / name, [1, 0])
    path_of = epath.Path
    monkeypatch.setattr(
        epath, 'Path', lambda path: path_of(str(path).replace('gs://bucket', str(tmp_path)))
    )
    assert 'p = 1' in compare.compare('gs://bucket/a', 'gs://bucket/b')


@pytest.mark.parametrize(
    'settings, others, paired',
    [
        ({}, {'data.name': 'fashion_mnist'}, False),
        ({}, {'data.eval_split': 'train[:2]'}, False),
        ({}, {'data.source': 'image_folder', 'data.data_dir': '/pets'}, False),
        ({}, {'data.data_dir': '/elsewhere'}, True),
        ({'data.data_dir': '/a/pets'}, {'data.data_dir': '/b/birds/'}, False),
        ({'data.data_dir': '/a/pets'}, {'data.data_dir': '/b/pets/'}, True),
    ],
)
def test_images_of_other_data_are_not_paired(settings, others, paired, tmp_path):
    """Equal numbers and labels do not make two sets of one size the same."""
    if settings:
        settings, others = ({'data.source': 'image_folder'} | each for each in (settings, others))
    runs = [
        write_run(tmp_path / name, [1, 0], **each)
        for name, each in (('a', settings), ('b', others))
    ]
    assert ('no paired test' not in compare.compare(*runs)) == paired


def test_what_is_no_finished_run(tmp_path, monkeypatch, capsys):
    a, b = write_run(tmp_path / 'a', [1, 0]), write_run(tmp_path / 'b', [1, 0])
    with pytest.raises(UserError, match='holds no config.json'):
        compare.compare(a, tmp_path)
    (tmp_path / 'b' / 'predictions.npz').write_bytes(b'PK\x03\x04nonsense')
    with pytest.raises(UserError, match='b/predictions.npz is damaged'):
        compare.compare(a, b)

    def refuse(run):
        raise PermissionError(13, 'Permission denied', run)

    with monkeypatch.context() as patch:
        patch.setattr(compare, 'read_config', refuse)
        with pytest.raises(SystemExit):
            compare.main([a, b])
    assert capsys.readouterr().err == f"error: [Errno 13] Permission denied: '{a}'\n"
    (tmp_path / 'b' / 'predictions.npz').unlink()
    with pytest.raises(UserError, match='finish the run first'):
        compare.compare(a, b)
