"""Videos of scanned digits that move, as a tfds dataset that needs no download.

Importing this module registers the builder, so that `tfds.builder('moving_digits')` finds it.
"""

import numpy as np
import tensorflow_datasets as tfds

from resnet_rs.datasets.digits import EVAL_EXAMPLES, TRAIN_EXAMPLES

FRAMES, SIZE, SCALE = 10, 32, 2  # of a video; pixels of a frame; pixels of a frame to one of a scan
DIRECTIONS = {'left': (0, -1), 'right': (0, 1), 'up': (-1, 0), 'down': (1, 0)}
SPEEDS = {'slow': 1, 'fast': 3}  # pixels from a frame to the next
CLASSES = {
    f'{direction} {speed}': (y * pixels, x * pixels)
    for direction, (y, x) in DIRECTIONS.items()
    for speed, pixels in SPEEDS.items()
}
VIDEOS_OF_A_DIGIT = 2


class MovingDigits(tfds.core.GeneratorBasedBuilder):
    """2,874 and 720 videos of ten grey frames of 32x32 pixels, in which one scanned digit moves.

    The class is the direction and the speed: left, right, up or down, slow or fast, one and three
    pixels a frame. A digit that leaves the frame at one side enters it at the other, and every
    place is equally likely at the start, so it is in every frame: one frame tells nothing about the
    class, and neither does the digit. The digits of 'train' and 'validation' are those of
    'digits' (resnet_rs.datasets.digits), of different writers.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self):
        shape = (FRAMES, SIZE, SIZE, 1)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'video': tfds.features.Video(shape=shape, encoding_format='png'),
                    'label': tfds.features.ClassLabel(names=list(CLASSES)),
                }
            ),
            supervised_keys=('video', 'label'),
            homepage='https://archive.ics.uci.edu/dataset/80',
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            'train': self._generate_examples(0, TRAIN_EXAMPLES),
            'validation': self._generate_examples(TRAIN_EXAMPLES, TRAIN_EXAMPLES + EVAL_EXAMPLES),
        }

    def _generate_examples(self, start, stop):
        from sklearn.datasets import load_digits

        scans = np.round(load_digits().images[start:stop] * (255 / 16)).astype(np.uint8)
        random = np.random.default_rng(start)
        count = len(scans) * VIDEOS_OF_A_DIGIT
        labels = random.permutation(np.arange(count) % len(CLASSES))
        starts = random.integers(0, SIZE, (count, 2))
        for index, label in enumerate(labels.tolist()):
            velocity = tuple(CLASSES.values())[label]
            frames = moving(scans[index // VIDEOS_OF_A_DIGIT], starts[index], velocity)
            yield index, {'video': frames[..., None], 'label': label}


def moving(scan: np.ndarray, start, velocity: tuple[int, int]) -> np.ndarray:
    """Returns the frames in which `scan` [8, 8] moves, uint8 [FRAMES, SIZE, SIZE].

    `start` is its first place and `velocity` its movement from frame to frame, (y, x) in pixels.
    """
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    digit = scan.repeat(SCALE, 0).repeat(SCALE, 1)
    canvas[: len(digit), : len(digit)] = digit
    places = np.asarray(start) + np.arange(FRAMES)[:, None] * np.asarray(velocity)
    return np.stack([np.roll(canvas, place, (0, 1)) for place in places])
