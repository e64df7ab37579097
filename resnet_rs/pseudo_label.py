"""Labels the images of a split by a trained network, for training on them (docs/objectives.md).

    python -m resnet_rs.pseudo_label --workdir=TEACHER --split='train[10%:]' --output=FILE.npz

FILE gets the probabilities of every image by its number in the split, by the EMA weights, with the
preprocessing of the teacher's evaluation. The same command resumes an interrupted one. Beside FILE
it writes a histogram of the confidences and a page of the most and the least certain images. A run
reads FILE by --config.objective=pseudo_labels --config.pseudo_labels.file=FILE.npz.
"""

import argparse

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

PAGE_IMAGES = 16  # of the most certain ones, and as many of the least certain


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    options = _parser().parse_args(arguments)
    with one_line_errors(UserError, OSError):
        path = as_path(options.output)
        if path.suffix != '.npz' or not has_directory(path):
            raise UserError(
                f'--output={path} must be an .npz file in a directory that exists; name another'
            )
        skip_absent_tpu()
        import_tensorflow()
        from resnet_rs.hub.timm_repository import source_config
        from resnet_rs.multihost import connection, hosts
        from resnet_rs.run import labelling
        from resnet_rs.utils import compilation_cache

        config = source_config(options.workdir)
        images = labelling.find_images(
            options.workdir, options.split, labelling.settings_of(options)
        )
        compilation_cache.enable()
        connection.connect(**config.hosts)
        with hosts.ending_together(UserError):
            labels = labelling.label_images(
                options.workdir,
                options.checkpoint,
                images,
                path,
                top=options.top,
                save_every=options.save_every,
            )
        import jax

        if jax.process_index() == 0:
            print(_report(labels, images, path, options, config.data))


def _report(labels, images, path, options, teacher_data) -> str:
    """Writes the pictures beside the file; returns a text on the labels and their selection."""
    least_confidence, per_class = options.least_confidence, options.per_class
    import numpy as np

    from resnet_rs.datasets.pseudo_labels import select
    from resnet_rs.run import certainty

    selection = select(labels, least_confidence, per_class)
    chosen = int((selection.copies == 0).sum())
    lines = [
        f'{count_of(len(labels.label), "image")} of {images.split.name} of {images.info.name}, '
        f'labelled by {labels.description.teacher}: {path}, digest {labels.digest}'
    ]
    # An image that cannot be decoded has no label; one with a set of labels may have no right one.
    undecodable = ~labels.mask & (labels.label < 0)
    for left_out, why in (
        (undecodable, 'cannot be decoded and will not be chosen'),
        (~labels.mask & ~undecodable, 'without a right class will not be chosen'),
    ):
        if left_out.any():
            lines.append(f'{count_of(int(left_out.sum()), "image")} {why}')
    confidence = labels.confidence[labels.mask]
    quantiles = np.quantile(confidence, (0.1, 0.5, 0.9)) if len(confidence) else (0, 0, 0)
    lines.append(
        f'confidence: {quantiles[0]:.3f}, {quantiles[1]:.3f} and {quantiles[2]:.3f} at 10, 50 and '
        '90 % of the images'
    )
    counts = selection.per_class
    lines.append(
        f'with a least confidence of {least_confidence:g} and '
        f'{per_class or "no fixed number of"} images per class: '
        f'{count_of(chosen, "image")}, {counts.sum():,} in an epoch, of each class '
        f'{counts.min():,} to {counts.max():,}'
    )
    lines += _agreement(labels, images, teacher_data)
    lines += [f'wrote {each}' for each in certainty.write(labels, images, path, PAGE_IMAGES)]
    return '\n'.join(lines)


def _agreement(labels, images, teacher_data) -> list[str]:
    """Returns a line on how many predictions are the data's own labels; [] for other classes.

    The classes are the teacher's if they have its names, or if the data are the teacher's own.
    """
    import numpy as np

    from resnet_rs.training.transfer import are_comparable

    own, names = images.info.class_names, labels.description.class_names
    if are_comparable(own, names):
        if not set(own) <= set(names):
            return []
        number_of = np.array([names.index(name) for name in own])
    else:
        data = images.config.data
        of_teacher = ('source', 'name', 'data_dir', 'classes', 'label')
        if any(data[name] != teacher_data[name] for name in of_teacher):
            return []
        number_of = np.arange(len(own))
    labelled = labels.mask & (labels.label >= 0)
    if not labelled.any():
        return []
    right = labels.predicted[labelled] == number_of[labels.label[labelled]]
    return [f"the data's own labels agree with {right.mean():.2%} of the predictions"]


def _parser():
    parser = CommandParser(prog='python -m resnet_rs.pseudo_label', description=__doc__)
    for name, meaning in (
        ('workdir', "of the teacher: a run, converted weights or 'hf:OWNER/NAME'"),
        ('split', "of the images, in the notation of tfds, such as 'train[10%%:]'"),
        ('output', 'the .npz file to write'),
    ):
        parser.add_argument(f'--{name}', required=True, help=meaning)
    parser.add_images_for('teacher')
    parser.add_argument(
        '--save_every', type=positive_integer, default=100,
        help='batches between two saves (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--top', type=positive_integer, default=0, help='likeliest classes to keep (default: all)'
    )
    parser.add_argument(
        '--least_confidence', type=_probability, default=0.0,
        help='least confidence of the selection that the command prints; changes nothing in FILE',
    )  # fmt: skip
    parser.add_argument(
        '--per_class', type=positive_integer, default=0,
        help='images per class of the selection that the command prints; changes nothing in FILE',
    )  # fmt: skip
    return parser


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number from 0 to 1')
    return value


if __name__ == '__main__':
    log_for_people()
    main()
