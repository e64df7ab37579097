"""The self-check of an export: its logits on real images next to those of the evaluation step."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from resnet_rs.datasets.clip_preprocessing import clip_preprocessing_of, find_videos
from resnet_rs.datasets.image_folder import find_images
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.export import reader as reader_program
from resnet_rs.export.network import Network
from resnet_rs.run.loading import preprocessing_of
from resnet_rs.utils.errors import UserError, count_of

BATCH_SIZE = 16  # of images; clips are checked one by one
MOST_IMAGES, MOST_CLIPS = 256, 8  # that are checked by default


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The agreement of an exported file with the evaluation step.

    images: the number of compared images or clips.
    difference: the greatest absolute difference of two logits.
    largest: the greatest absolute logit of the evaluation step.
    same_top1: the number of images with the same likeliest class.
    tolerance: the greatest allowed ratio of `difference` to `largest`.
    noun: 'image' or 'clip'.
    """

    images: int
    difference: float
    largest: float
    same_top1: int
    tolerance: float
    noun: str = 'image'

    @property
    def relative(self) -> float:
        return self.difference / self.largest if self.largest else self.difference

    def __str__(self) -> str:
        return (
            f'{count_of(self.images, self.noun)}: logits differ by at most {self.difference:.2g}, '
            f'{self.relative:.2g} of the largest ({self.largest:.3g}; tolerance '
            f'{self.tolerance:g}); the likeliest class agrees on {self.same_top1:,}'
        )


def images_for(
    network: Network, paths: Sequence[str] | None, count: int | None = None
) -> np.ndarray:
    """Returns up to `count` images for the check, uint8 [number, *clip, size, size, 3].

    They are the files and folders in `paths`, cropped as in evaluation; without `paths`, images of
    the evaluation split. Of a video it is the centre crop of the middle clip. Raises UserError if
    they cannot be read.
    """
    count = count or (MOST_CLIPS if network.clip else MOST_IMAGES)
    if paths and network.clip:
        preprocessing = clip_preprocessing_of(network.config, network.image_size)
        middle = dataclasses.replace(preprocessing, clips=1, crops=1)
        return middle.views(find_videos(paths)[:count])[:, 0]
    if not paths:
        return _evaluation_images(network, count)
    files = find_images(paths)[:count]
    return preprocessing_of(network.config, network.image_size).crop_images(files)


def _evaluation_images(network: Network, count: int) -> np.ndarray:
    """Returns up to `count` images of the evaluation split, uint8 [number, *clip, size, size, 3].

    They lie evenly over the split. Raises UserError if the data are not there or cannot be read.
    """
    data = network.config.data
    try:
        info = find_dataset(data)
        split = info.split(data.eval_split)
    except UserError as error:
        raise UserError(
            f'the check of the exported file needs images of the evaluation split ({error}); name '
            'other image files or a folder with --images'
        ) from error
    import tensorflow as tf

    from resnet_rs.datasets import clips, records
    from resnet_rs.datasets.images import evaluation_transform

    count = min(count, split.num_examples)
    places = np.linspace(0, split.num_examples - 1, count).round().astype(int).tolist()
    if split.video_form:
        views = clips.evaluation_transform(data, split, network.image_size, 1, 1)

        def transform(frames):
            return views(frames)[0]
    else:
        transform = evaluation_transform(data, network.image_size)
    threads = data.threads or len(os.sched_getaffinity(0))
    ranges = [(place, place + 1) for place in places]
    examples = records.records_of_ranges(split, info.file_format, ranges, threads=threads)
    images = examples.map(lambda example: transform(records.load(split, example['data'])))
    if data.corrupt_images == 'skip':
        images = images.ignore_errors()
    try:
        found = list(images.as_numpy_iterator())
    except (tf.errors.OpError, RuntimeError) as error:
        reason = (str(error).splitlines() or ['damaged'])[0]
        raise UserError(f'an image of {split.name} cannot be read ({reason})') from error
    return np.stack(found)


def logits_without_project(format: str, folder: pathlib.Path, images: np.ndarray) -> np.ndarray:
    """Returns the float32 logits that a fresh process reads from the exported files in `folder`.

    Raises RuntimeError if the process fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        given, got = (os.path.join(directory, name) for name in ('images.npy', 'logits.npy'))
        np.save(given, images)
        program = [sys.executable, '-I', reader_program.__file__]
        process = subprocess.run(
            [*program, format, str(folder), given, got, str(_batch_size(images))],
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise RuntimeError(f'the exported {format} cannot be run:\n{process.stderr}')
        return np.load(got)


def check(
    network: Network, format: str, folder: pathlib.Path, images: np.ndarray, tolerance: float
) -> Agreement:
    """Runs the exported files in a fresh process without this project; returns their agreement.

    Args:
      network: the exported network.
      format: a name of READERS in reader.py.
      folder: the folder of the exported files.
      images: uint8 [number, *clip, size, size, 3].
      tolerance: the greatest allowed difference of logits, as a part of the largest logit.

    Raises UserError if the logits differ by more than the tolerance or are not finite, and
    RuntimeError if the process fails.
    """
    expected = network.evaluated(images, _batch_size(images))
    logits = logits_without_project(format, folder, images)
    difference = float(np.abs(logits - expected).max())
    same = int((logits.argmax(-1) == expected.argmax(-1)).sum())
    largest = float(np.abs(expected).max())
    noun = 'clip' if network.clip else 'image'
    agreement = Agreement(len(images), difference, largest, same, tolerance, noun)
    if not agreement.relative <= tolerance:  # NaN too
        raise UserError(f'the check of the exported {format} failed on {agreement}')
    return agreement


def _batch_size(images: np.ndarray) -> int:
    return BATCH_SIZE if images.ndim == 4 else 1
