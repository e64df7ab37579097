"""Prints the result of `make demo` next to those of two plain classifiers.

    python -m resnet_rs.demo --workdir=runs/demo

The command fits both classifiers on the pixels of the same split of scikit-learn's digits.
"""

import numpy as np

from resnet_rs.datasets.locate import as_path
from resnet_rs.run.run_log import PAGE_FILE, read_metrics
from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors


def main() -> None:
    """Runs the command."""
    parser = CommandParser(prog='python -m resnet_rs.demo', description=__doc__)
    parser.add_argument('--workdir', required=True, help='of a finished run of configs/digits.py')
    workdir = as_path(parser.parse_args().workdir)
    evaluations = read_metrics(workdir, 'eval', ('ema_top1', 'raw_top1'))
    if not evaluations:
        raise UserError(f'{workdir} holds no evaluated run; train configs/digits.py there first')
    last = evaluations[-1]
    rows = {'ResNet-RS, EMA weights': last['ema_top1'], 'ResNet-RS, raw weights': last['raw_top1']}
    rows |= baselines()
    print('\nTop-1 on the 360 test digits:')
    for name, top1 in rows.items():
        print(f'  {name:26} {100 * top1:6.2f} %')
    print(f'\nIn {workdir}:')
    for path in (*sorted(workdir.glob('*.png')), workdir / PAGE_FILE):
        print(f'  {path}')
    print(
        '\nNext: the README says how to prepare ImageNet; then\n'
        '  python main.py --config=configs/resnet_rs.py:50@160 --workdir=runs/50@160\n'
        'trains the first row of the paper. Add --mode=check to see whether it can start here.\n'
        'Without ImageNet: make study trains 30 networks on Fashion-MNIST and shows what images\n'
        'without labels add to 1,000 labels (docs/studies/README.md).'
    )


def baselines() -> dict[str, float]:
    """Returns the top-1 on the last 360 digits of classifiers fitted on the first 1,437."""
    import sklearn.datasets
    import sklearn.neighbors
    import sklearn.svm

    from resnet_rs.datasets.digits import TRAIN_EXAMPLES

    classifiers = {
        'support-vector machine': sklearn.svm.SVC(gamma=0.001, C=10),
        'three nearest neighbours': sklearn.neighbors.KNeighborsClassifier(3),
    }
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    train, test = np.split(np.arange(len(labels)), [TRAIN_EXAMPLES])
    return {
        name: classifier.fit(pixels[train], labels[train]).score(pixels[test], labels[test])
        for name, classifier in classifiers.items()
    }


if __name__ == '__main__':
    with one_line_errors(UserError, OSError):
        main()
