"""Prints the likeliest classes of images, by the network of a work directory (docs/convert.md).

    python -m resnet_rs.predict --workdir=DIR IMAGE... [--top=5] [--json | --csv] [--skip_bad]
      [--grid=FILE.png]
    python -m resnet_rs.predict --workdir=DIR VIDEO... [--clips=10 --crops=3]

IMAGE is a JPEG, PNG, WebP, GIF or BMP file, or a folder of them; of an animation the first frame
counts. Images are turned upright as their EXIF orientation says, then preprocessed as in
evaluation: the centre crop, kernel and normalisation of the work directory's configuration.
--grid also draws the images with bars of their likeliest classes.

A network for clips takes videos: files such as .mp4, folders of frames, or folders of videos. The
probabilities are averaged over evenly spaced clips and their crops (docs/video.md). --grid draws a
strip of frames of the middle clip.

The exit status is 0; 2 for a user error such as an unreadable file; 1 if --skip_bad skipped such
files.
"""

import argparse
import csv
import dataclasses
import io
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from resnet_rs.config import SETTINGS
from resnet_rs.datasets.clip_preprocessing import (
    ClipPreprocessing,
    clip_preprocessing_of,
    find_videos,
    frame_count,
)
from resnet_rs.datasets.image_folder import find_images
from resnet_rs.hub.download import download
from resnet_rs.hub.timm_repository import source_config
from resnet_rs.utils.errors import (
    CommandParser,
    Renamed,
    UserError,
    checkpoint_name,
    count_of,
    first_of,
    one_line_errors,
    positive_integer,
    print_line,
)
from resnet_rs.utils.files import check_absent, created_whole
from resnet_rs.utils.log_lines import log_for_people
from resnet_rs.utils.platforms import import_tensorflow, skip_absent_tpu

MOST_IN_GRID = 60


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image or a video, best first: (number, name, probability)."""

    file: str
    classes: tuple[tuple[int, str, float], ...]


def predict(
    workdir: str | os.PathLike,
    files: Sequence[str | os.PathLike],
    *,
    top: int = 5,
    batch_size: int = 16,
    image_size: int | None = None,
    weights: str = 'ema',
    checkpoint: str = 'last',
) -> list[Prediction]:
    """Returns the `top` likeliest classes of every image or video, computed in float32.

    Args:
      workdir: the work directory of a run or of converted weights, or 'hf:OWNER/NAME'.
      files: image files; for a network for clips, files of videos and folders of frames.
      top: the number of classes, limited to those of the network.
      batch_size: images or videos per forward pass.
      image_size: pixels; None for the evaluation's resolution of the configuration.
      weights: 'ema' or 'raw'.
      checkpoint: 'last', 'best' or a step.

    Raises UserError for files that cannot be read, before it loads the network, and for a directory
    without weights.
    """
    _refuse(_unreadable(files, _clip_preprocessing(source_config(workdir), image_size)), files)
    from resnet_rs.run.loading import load

    network = load(workdir, weights, checkpoint, image_size=image_size)
    return _predict_readable(network, files, top, batch_size)


def _clip_preprocessing(config, image_size, clips=None, crops=None) -> ClipPreprocessing | None:
    """Returns the preprocessing of a network for clips, or None for one for images."""
    if config.data.frames < 2:
        return None
    preprocessing = clip_preprocessing_of(config, image_size)
    return dataclasses.replace(
        preprocessing, clips=clips or preprocessing.clips, crops=crops or preprocessing.crops
    )


def _unreadable(files, preprocessing: ClipPreprocessing | None) -> dict[str, str]:
    """Returns {file: what is wrong} for the files that cannot be decoded."""
    import_tensorflow()
    if preprocessing:
        return preprocessing.unreadable(files)
    from resnet_rs.datasets.image_file import unreadable  # TensorFlow takes seconds

    return unreadable(files)


def _note_short_videos(files, preprocessing: ClipPreprocessing) -> None:
    counts = {str(file): frame_count(file) for file in files}
    if short := [file for file, count in counts.items() if count < preprocessing.span]:
        print_line(
            f'{count_of(len(short), "video")} of fewer than the {preprocessing.span} frames that a '
            f'clip spans, which repeats them: {first_of(short)}',
            'note',
        )


def _refuse(bad: dict[str, str], files) -> None:
    if not bad:
        return
    names, reason = list(bad), next(iter(bad.values()))
    if len(bad) > 1:
        reason = (
            f'{len(bad):,} of {count_of(len(files), "file")} cannot be read: '
            f'{first_of(names)}; the first: {reason}'
        )
    raise UserError(f'{reason}; leave it out, or add --skip_bad')


def _predict_readable(network, files, top, batch_size):
    import jax

    names = network.class_names
    predictions = []
    batch_size = min(batch_size, len(files))
    for start in range(0, len(files), batch_size):
        part = files[start : start + batch_size]
        # Repeats of the last file fill the last batch: another batch size would compile again.
        full = [*part, *[part[-1]] * (batch_size - len(part))]
        best = jax.lax.top_k(jax.nn.softmax(network(full)), min(top, len(names)))
        probabilities, numbers = jax.device_get(best)
        for file, row, chances in zip(part, numbers, probabilities, strict=False):
            classes = [(int(n), names[n], float(p)) for n, p in zip(row, chances, strict=True)]
            predictions.append(Prediction(str(file), tuple(classes)))
    return predictions


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    options = _parser().parse_args(arguments)
    skip_absent_tpu()
    with one_line_errors(UserError, OSError):
        if options.grid:
            _check_grid(options.grid)
        download(options.workdir)
        config = source_config(options.workdir)
        clips = _clip_preprocessing(config, options.image_size, options.clips, options.crops)
        if not clips and (options.clips or options.crops):
            raise UserError(
                f'{config.model.name} takes images, of which there are no --clips and no --crops'
            )
        files = find_videos(options.images) if clips else find_images(options.images)
        bad = _unreadable(files, clips)
        if not options.skip_bad:
            _refuse(bad, files)
        for problem in bad.values():
            print_line(problem, 'skipped')
        good = [file for file in files if str(file) not in bad]
        if not good:
            raise UserError('no file can be read' if len(files) > 1 else 'the file cannot be read')
        if clips:
            _note_short_videos(good, clips)
        from resnet_rs.run.loading import load

        workdir, weights, checkpoint = options.workdir, options.weights, options.checkpoint
        network = load(workdir, weights, checkpoint, image_size=options.image_size)
        if clips:
            network = dataclasses.replace(network, preprocessing=clips)
        batch_size = options.batch_size or (1 if clips else 16)
        predictions = _predict_readable(network, good, options.top, batch_size)
    write = {'text': _write_text, 'json': _write_json, 'csv': _write_csv}[options.format]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='surrogateescape')  # names of files are bytes of any kind
    with one_line_errors(UserError, OSError):
        write(predictions)
        if options.grid:
            _write_grid(options.grid, predictions, network.preprocessing)
    if bad:
        sys.exit(1)


def _check_grid(path: pathlib.Path) -> None:
    if path.suffix != '.png':
        raise UserError(f'--grid is {str(path)!r}; the picture is written as .png')
    if not path.parent.is_dir():
        raise UserError(f'--grid={path}: there is no folder {path.parent}; create it first')
    if not os.access(path.parent, os.W_OK):
        raise UserError(f'--grid={path}: {path.parent} cannot be written to; name another folder')
    check_absent(path, '--grid')


def _write_grid(path: pathlib.Path, predictions, preprocessing) -> None:
    """Draws what the network sees of each image or video."""
    from resnet_rs.run.prediction_grid import draw_predictions  # matplotlib takes a second
    from resnet_rs.utils.figures import encode_figure

    if len(predictions) > MOST_IN_GRID:
        print_line(f'{path} shows the first {MOST_IN_GRID} of {len(predictions):,}', 'note')
    shown = predictions[:MOST_IN_GRID]
    classes = [[(name, chance) for _, name, chance in image.classes] for image in shown]
    files = [image.file for image in shown]
    titles = [os.path.basename(file) for file in files]
    if isinstance(preprocessing, ClipPreprocessing):
        pictures = [preprocessing.strip(file) for file in files]
    else:
        pictures = preprocessing.crop_images(files)
    figure = draw_predictions(pictures, titles, classes)
    with created_whole(path) as partial:
        partial.write_bytes(encode_figure(figure, 'png'))


def _write_text(predictions):
    for prediction in predictions:
        print(prediction.file)
        for _, name, probability in prediction.classes:
            print(f'  {probability:7.2%}  {name}')


def _write_json(predictions):
    rows = [
        {
            'file': prediction.file,
            'classes': [
                {'class': number, 'name': name, 'probability': probability}
                for number, name, probability in prediction.classes
            ],
        }
        for prediction in predictions
    ]
    print(json.dumps(rows, indent=2))


def _write_csv(predictions):
    writer = csv.writer(sys.stdout, lineterminator='\n')
    writer.writerow(['file', 'rank', 'class', 'name', 'probability'])
    for prediction in predictions:
        for rank, row in enumerate(prediction.classes, start=1):
            writer.writerow([prediction.file, rank, *row])


def _in_range(setting: str):
    """Returns the type of an argument whose values are those of a setting."""

    def parse(text: str) -> int:
        try:
            SETTINGS[setting].rule.check(setting, number := positive_integer(text))
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return number

    return parse


def _parser():
    parser = CommandParser(prog='python -m resnet_rs.predict', description=__doc__)
    parser.add_argument(
        'images', nargs='+', metavar='IMAGE', help='an image, a video, or a folder of them'
    )
    parser.add_argument(
        '--workdir',
        required=True,
        metavar='DIR',
        help='of a run, or of converted weights; or hf:OWNER/NAME, a network of the Hub',
    )
    parser.add_argument(
        '--checkpoint',
        type=checkpoint_name,
        default='last',
        metavar='STEP',
        help="'last', 'best' or a step (default: %(default)s)",
    )
    parser.add_argument('--step', action=Renamed, const='--checkpoint', help=argparse.SUPPRESS)
    parser.add_argument(
        '--top', type=positive_integer, default=5, help='classes (default: %(default)s)'
    )
    parser.add_argument(
        '--batch_size',
        type=positive_integer,
        help='at once (default: 16 images, or 1 video)',
    )
    parser.add_argument(
        '--clips',
        type=_in_range('eval.clips'),
        help="clips of each video (default: those of the run's evaluation)",
    )
    parser.add_argument(
        '--crops',
        type=_in_range('eval.crops'),
        help="crops of each clip, 1 or 3 (default: those of the run's evaluation)",
    )
    parser.add_argument(
        '--image_size', type=positive_integer, help="pixels (default: the config's)"
    )
    parser.add_argument(
        '--weights', choices=['ema', 'raw'], default='ema', help='(default: %(default)s)'
    )
    parser.add_argument(
        '--skip_bad', action='store_true', help='leave out files that cannot be read, and name them'
    )
    parser.add_argument(
        '--grid',
        type=pathlib.Path,
        metavar='FILE.png',
        help='a picture of the images with bars of their classes',
    )
    output = parser.add_mutually_exclusive_group()
    for name in ('json', 'csv'):
        output.add_argument(f'--{name}', dest='format', action='store_const', const=name)
    parser.set_defaults(format='text')
    return parser


if __name__ == '__main__':
    log_for_people()
    main()
