"""Videos of scanned digits that move, as a tfds dataset that needs no download.

Importing this module registers the builder, so that `tfds.builder('moving_digits')` finds it.
"""

import numpy as np
import tensorflow_datasets as tfds

from resnet_rs.datasets.digits import ScannedDigits, scanned

FRAMES, SIZE, SCALE = 10, 32, 2  # of a video; pixels of a frame; pixels of a frame to one of a scan
DIRECTIONS = {'left': (0, -1), 'right': (0, 1), 'up': (-1, 0), 'down': (1, 0)}
SPEEDS = {'slow': 1, 'fast': 3}  # pixels from a frame to the next
CLASSES = {
    f'{direction} {speed}': (y * pixels, x * pixels)
    for direction, (y, x) in DIRECTIONS.items()
    for speed, pixels in SPEEDS.items()
}
VIDEOS_OF_A_DIGIT = 2


class MovingDigits(ScannedDigits):
    """2,874 and 720 videos of ten grey frames of 32x32 pixels, in which one scanned digit moves.

    The class is the direction and the speed: left, right, up or down, slow or fast, one and three
    pixels a frame. A digit that leaves the frame at one side enters it at the other, and every
    place is equally likely at the start, so it is in every frame: one frame tells nothing about the
    class, and neither does the digit. The digits of 'train' and 'validation' are those of
    'digits' (resnet_rs.datasets.digits), of different writers.
    """

    def _info(self):
        return self.described(
            video=tfds.features.Video(shape=(FRAMES, SIZE, SIZE, 1), encoding_format='png'),
            label=tfds.features.ClassLabel(names=list(CLASSES)),
        )

    def _generate_examples(self, start, stop):
        scans = scanned()[0][start:stop]
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
