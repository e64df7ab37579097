"""Measures how well the features of a trained network separate the classes of a dataset.

    python -m resnet_rs.probe --workdir=DIR --data=NAME [--train=train --test=test]

The command computes the pooled features of every image once, by the EMA weights and with the
preprocessing of evaluation. Then it fits ridge regression to a few images of each class, logistic
regression, and nearest neighbours, and prints their top-1 on the test images. The same classifiers
on pixels, and chance, stand beside them (docs/probe.md). Settings of the classifiers are chosen on
a tenth of the training images.
"""

import json

from resnet_rs.datasets.locate import as_path
from resnet_rs.utils.errors import (
    CommandParser,
    UserError,
    count_of,
    one_line_errors,
    positive_integer,
)
from resnet_rs.utils.files import has_directory
from resnet_rs.utils.log_lines import log_for_people
from resnet_rs.utils.platforms import import_tensorflow, skip_absent_tpu

PROBES = ('few_shot', 'logistic', 'neighbours')
INPUTS = ('features', 'pixels')
VALIDATION = 0.1  # of the training images, as in DINOv2's code
PIXELS = 32  # side to which images are reduced for the classifiers of pixels


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    options = _parser().parse_args(arguments)
    with one_line_errors(UserError, OSError):
        output = as_path(options.output) if options.output else None
        if output and (output.exists() or not has_directory(output)):
            raise UserError(
                f'--output={output} must be a new file in a directory that exists; name another'
            )
        skip_absent_tpu()
        import_tensorflow()
        from resnet_rs.run import features
        from resnet_rs.utils import compilation_cache

        compilation_cache.enable()
        images = features.find_splits(options)
        features.check_labels(*images)
        shots = options.shots if 'few_shot' in options.probes else []
        features.check_shots(images[0], shots, VALIDATION)
        rows = measure(features.compute(options, images, PIXELS), options)
        rows['data'] = f'{images[0].split.name} and {images[1].split.name} of {images[0].info.name}'
        print(_text(rows, images))
        if output:
            output.write_text(json.dumps(rows, indent=2) + '\n')


def measure(splits: dict, options) -> dict:
    """Returns the results of all probes, {'rows': [...], 'chance': ..., 'majority': ...}.

    `splits` is {'features': (train, test), 'pixels': (train, test)} of probes.Split.
    """
    import numpy as np

    from resnet_rs.training import probes

    train, test = splits['features']
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    rows = []
    for name in options.probes:
        for inputs in options.inputs:
            train, test = splits[inputs]
            kept, validation = (
                train.at(examples) for examples in probes.held_out(train.labels, VALIDATION)
            )
            if name == 'few_shot':
                for shots in options.shots:
                    found = probes.few_shot(
                        kept, validation, test, classes, shots, range(options.seeds)
                    )
                    rows.append(_row(f'ridge, {shots} per class', inputs, found, test.labels))
            elif name == 'logistic':
                found = probes.logistic(kept, validation, test)
                rows.append(_row('logistic regression', inputs, found, test.labels))
            else:
                found = probes.nearest_neighbours(kept, validation, test, classes)
                rows.append(_row('nearest neighbours', inputs, found, test.labels))
    majority = np.bincount(train.labels).argmax()
    return {
        'rows': rows,
        'chance': 1 / classes,
        'majority': float((test.labels == majority).mean()),
    }


def _row(probe: str, inputs: str, found, labels) -> dict:
    """Returns the top-1 with its 95 % interval: Student's t over seeds, or Wilson's of images."""
    import numpy as np
    import scipy.stats

    from resnet_rs.training.probes import mean_per_class
    from resnet_rs.utils.statistics import wilson_interval

    right = found.predictions == labels
    scores = right.mean(1)
    if len(scores) > 1:
        half = scipy.stats.t.ppf(0.975, len(scores) - 1) * scores.std(ddof=1) / len(scores) ** 0.5
        low, high = max(scores.mean() - half, 0), min(scores.mean() + half, 1)
    else:
        low, high = wilson_interval(int(right.sum()), right.size)
    return {
        'probe': probe,
        'inputs': inputs,
        'chosen': found.chosen,
        'top1': float(scores.mean()),
        'low': float(low),
        'high': float(high),
        'seeds': len(scores),
        'mean_per_class': float(np.mean([mean_per_class(p, labels) for p in found.predictions])),
    }


def _text(rows: dict, images) -> str:
    lines = [
        f'{rows["data"]}: top-1 of {count_of(images[1].split.num_examples, "test image")} in %; '
        f'chance {100 * rows["chance"]:.2f}, the most frequent class {100 * rows["majority"]:.2f}',
        f'{"":24} {"inputs":10} {"top-1":>7} {"95 % interval":>16} {"per class":>10}  chosen',
    ]
    for row in rows['rows']:
        interval = f'{100 * row["low"]:.2f} to {100 * row["high"]:.2f}'
        lines.append(
            f'{row["probe"]:24} {row["inputs"]:10} {100 * row["top1"]:7.2f} {interval:>16} '
            f'{100 * row["mean_per_class"]:10.2f}  {row["chosen"]}'
        )
    return '\n'.join(lines)


def _parser():
    parser = CommandParser(prog='python -m resnet_rs.probe', description=__doc__)
    parser.add_argument(
        '--workdir', required=True, help="of a run, of converted weights, or 'hf:OWNER/NAME'"
    )
    parser.add_images_for('network')
    parser.add_argument('--train', default='train', help='split (default: %(default)s)')
    parser.add_argument('--test', default='test', help='split (default: %(default)s)')
    parser.add_argument(
        '--seeds', type=positive_integer, default=3,
        help='draws of the few images (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--shots', type=positive_integer, nargs='+', default=[1, 5, 10, 25],
        help='images of each class for ridge regression (default: 1 5 10 25)',
    )  # fmt: skip
    parser.add_argument(
        '--probes', nargs='+', choices=PROBES, default=list(PROBES), help='(default: all)'
    )
    parser.add_argument(
        '--inputs', nargs='+', choices=INPUTS, default=list(INPUTS), help='(default: both)'
    )
    parser.add_argument('--output', metavar='FILE', help='new JSON file for the results')
    return parser


if __name__ == '__main__':
    log_for_people()
    main()
