"""Compares two finished runs: settings, results, and the significance of their difference.

    python -m resnet_rs.compare RUN_A RUN_B

The command prints the settings that differ; accuracies with 95 % Wilson intervals; and McNemar's
exact test on the images that each run classified correctly. TensorBoard shows the curves of both.

An interval covers the choice of images, and the test compares runs on the same images: neither
covers the choice of the seed. For that, compare means over seeds (resnet_rs.results).
"""

import os

import numpy as np

from resnet_rs.config import flatten
from resnet_rs.config.dataset import dataset_name
from resnet_rs.config.stored import read_config
from resnet_rs.run.predictions import read_predictions
from resnet_rs.training import WEIGHTS
from resnet_rs.utils.errors import CommandParser, UserError, count_of, one_line_errors
from resnet_rs.utils.statistics import mcnemar, wilson_interval

NOT_SET = '(not set)'


def config_differences(first: dict, second: dict) -> dict[str, tuple]:
    """Returns {'model.name': (first value, second value), ...} of the settings that differ."""
    first, second = flatten(first), flatten(second)
    return {
        name: (first.get(name, NOT_SET), second.get(name, NOT_SET))
        for name in sorted(first.keys() | second.keys())
        if first.get(name, NOT_SET) != second.get(name, NOT_SET)
    }


def compare(first: str | os.PathLike, second: str | os.PathLike) -> str:
    """Returns the comparison of two runs; raises UserError for an unfinished or damaged run."""
    configs = [_read(read_config, run, 'config.json') for run in (first, second)]
    tables = [read_predictions(run) for run in (first, second)]
    lines = [f'A: {first}', f'B: {second}', '', 'Settings that differ:']
    differences = config_differences(*(config.to_dict() for config in configs))
    lines += [f'  {name}: {a!r} | {b!r}' for name, (a, b) in differences.items()] or ['  none']
    same_images = _evaluated_data(configs[0]) == _evaluated_data(configs[1]) and all(
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


def _evaluated_data(config) -> tuple[str, str, str]:
    """Returns the source, the name and the split of the data that a run was evaluated on.

    The name is without its version; that of a folder is its last part, because hosts may have it in
    different places.
    """
    data = config.data
    return data.source, dataset_name(config).partition(':')[0], data.eval_split


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


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = CommandParser(prog='python -m resnet_rs.compare', description=__doc__)
    parser.add_argument('runs', nargs=2, metavar='RUN', help='a work directory')

    options = parser.parse_args(arguments)
    with one_line_errors(UserError, OSError):
        print(compare(*options.runs))


if __name__ == '__main__':
    main()
