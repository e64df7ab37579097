"""Compares two finished runs: settings, results, and the significance of their difference.

    python -m resnet_rs.compare RUN_A RUN_B

The command prints the settings that differ; accuracies with 95 % Wilson intervals; and McNemar's
exact test on the images that each run classified correctly. TensorBoard shows the curves of both.

An interval covers the choice of images, and the test compares runs on the same images: neither
covers the choice of the seed. For that, compare means over seeds (resnet_rs.results).
"""

import dataclasses
import os
import pathlib
import zipfile

import numpy as np

from resnet_rs.config import flatten
from resnet_rs.config.stored import read_config
from resnet_rs.run.run_log import PREDICTIONS_FILE
from resnet_rs.training import WEIGHTS
from resnet_rs.utils.errors import CommandParser, UserError, count_of, one_line_errors
from resnet_rs.utils.statistics import wilson_interval

NOT_SET = '(not set)'
# Columns of predictions.npz that the comparison needs. For five classes or fewer it has no top5.
COLUMNS = (
    'index',
    'label',
    *(f'{weights}_{name}' for weights in ('raw', 'ema') for name in ('top1', 'loss')),
)
OPTIONAL_COLUMNS = ('raw_top5', 'ema_top5')
MOST_COLUMN_BYTES = 2**27  # 16 million examples
AGAIN = 'move the file away and give the command of the run again'


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """The result of McNemar's test on the images that exactly one of two runs classified correctly.

    p_value: probability of counts at least as uneven if both runs were equally good (two-sided,
      exact binomial).
    """

    only_first: int
    only_second: int
    p_value: float


def config_differences(first: dict, second: dict) -> dict[str, tuple]:
    """Returns {'model.name': (first value, second value), ...} of the settings that differ."""
    first, second = flatten(first), flatten(second)
    return {
        name: (first.get(name, NOT_SET), second.get(name, NOT_SET))
        for name in sorted(first.keys() | second.keys())
        if first.get(name, NOT_SET) != second.get(name, NOT_SET)
    }


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> PairedTest:
    """Returns McNemar's test for two bool arrays [examples] about the same images."""
    import scipy.stats

    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    different = only_first + only_second
    p_value = scipy.stats.binomtest(only_first, different).pvalue if different else 1.0
    return PairedTest(only_first, only_second, float(p_value))


def compare(first: str | os.PathLike, second: str | os.PathLike) -> str:
    """Returns the comparison of two runs; raises UserError for an unfinished or damaged run."""
    configs = [_read(read_config, run, 'config.json') for run in (first, second)]
    tables = [_predictions(run) for run in (first, second)]
    lines = [f'A: {first}', f'B: {second}', '', 'Settings that differ:']
    differences = config_differences(*(config.to_dict() for config in configs))
    lines += [f'  {name}: {a!r} | {b!r}' for name, (a, b) in differences.items()] or ['  none']
    same_images = all(
        np.array_equal(tables[0][name], tables[1][name]) for name in ('index', 'label')
    )
    for weights in WEIGHTS:
        lines += ['', f'{weights} weights:']
        for name, table in zip('AB', tables, strict=True):
            lines.append(f'  {name}: {_accuracies(table, weights)}')
        if same_images:
            right = [table[f'{weights}_top1'] for table in tables]
            test = mcnemar(*right)
            lines.append(
                f'  top-1, B - A: {100 * (right[1].mean() - right[0].mean()):+.2f} points; only A '
                f'right {test.only_first}, only B right {test.only_second}, p = {test.p_value:.3g}'
            )
    if not same_images:
        lines += ['', 'The runs were evaluated on different images: no paired test.']
    return '\n'.join(lines)


def _accuracies(table: dict[str, np.ndarray], weights: str) -> str:
    parts = []
    for name in ('top1', 'top5'):
        if f'{weights}_{name}' not in table:
            continue
        right = table[f'{weights}_{name}']
        low, high = wilson_interval(int(right.sum()), len(right))
        interval = f'[{100 * low:.2f}, {100 * high:.2f}]'
        parts.append(f'top-{name[-1]} {100 * right.mean():.2f} % {interval}')
    loss = table[f'{weights}_loss'].mean(dtype=np.float64)
    return f'{", ".join(parts)}, loss {loss:.4f}, {count_of(len(right), "image")}'


def _read(reader, run, file):
    found = reader(run)
    if found is None:
        raise UserError(f'{run} holds no {file}; name the work directory of a run')
    return found


def _predictions(run: str | os.PathLike) -> dict[str, np.ndarray]:
    path = pathlib.Path(run) / PREDICTIONS_FILE
    if not path.exists():
        raise UserError(f'{path} is missing: a run writes it at its end; finish the run first')
    try:
        with zipfile.ZipFile(path) as archive:
            there = [name for name in OPTIONAL_COLUMNS if f'{name}.npy' in archive.namelist()]
            table = {name: _read_column(archive, f'{name}.npy') for name in (*COLUMNS, *there)}
    # The archive, its compression and NumPy's headers raise different errors.
    except Exception as error:
        raise UserError(f'{path} is damaged ({error}); {AGAIN}') from error
    for name, column in table.items():
        kind = 'b' if 'top' in name else 'f' if 'loss' in name else 'i'
        if column.dtype.kind != kind or column.shape != (len(table['index']),) or not column.size:
            raise UserError(
                f'{path} is damaged ({name} is {column.dtype}{list(column.shape)}); {AGAIN}'
            )
    return table


def _read_column(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array of an .npz file; raises ValueError if it is larger than any split."""
    if archive.getinfo(name).file_size > MOST_COLUMN_BYTES:
        raise ValueError(f'{name} has {archive.getinfo(name).file_size} bytes')
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = CommandParser(prog='python -m resnet_rs.compare', description=__doc__)
    parser.add_argument('runs', nargs=2, metavar='RUN', help='a work directory')

    options = parser.parse_args(arguments)
    with one_line_errors(UserError):
        print(compare(*options.runs))


if __name__ == '__main__':
    main()
