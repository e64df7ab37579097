"""Examples: the image and the labels of a record, or a blank in place of a missing image."""

import dataclasses

import numpy as np
import tensorflow as tf

from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.utils.errors import UserError, count_of

# Class number of positions that hold no image: padding and undecodable images. Their mask is 0.
NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class ExampleFormat:
    """The arrays of an example.

    They are 'image' uint8 [..., S, S, 3], 'label' int32, 'mask' float32, 'index' int32 (the number
    in the split), of sets with several right labels 'label_set' bool [classes], and with a second
    crop 'teacher_image' uint8 [T, T, 3].

    Attributes:
      source: the split that is read, from copies if there is a cache.
      num_classes: the number of classes of the dataset.
      image_size: S in pixels.
      second_size: T in pixels; 0 for no second crop.
      clip: the axes before height and width, of an example from a video (config.clips.clip_shape).
    """

    source: SplitInfo
    num_classes: int
    image_size: int
    clip: tuple[int, ...] = ()
    second_size: int = 0

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (*self.clip, self.image_size, self.image_size, 3)

    @property
    def image_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the images of an example by name."""
        second = {'teacher_image': (self.second_size, self.second_size, 3)}
        return {'image': self.image_shape} | (second if self.second_size else {})

    def decoded(self, record: dict, image) -> dict[str, tf.Tensor]:
        """Returns the example of a record (resnet_rs.datasets.records) and its decoded image.

        With a second crop `image` is a pair of both.
        """
        crops = image if self.second_size else (image,)
        example = {
            **dict(zip(self.image_shapes, crops, strict=True)),
            'label': tf.cast(record['label'], tf.int32),
            'mask': tf.constant(1, tf.float32),
            'index': tf.cast(record['index'], tf.int32),
        }
        if self.source.label_set_feature:
            classes = tf.range(self.num_classes, dtype=tf.int64)
            is_right = tf.reduce_any(record['label_set'][:, None] == classes, axis=0)
            example['label_set'] = is_right
            example['mask'] = tf.cast(tf.reduce_any(is_right), tf.float32)
        return example

    def blank(self, record: dict) -> dict[str, tf.Tensor]:
        """Returns the example of a record whose image cannot be decoded."""
        shapes = self.image_shapes
        example = {
            **{name: tf.zeros(shape, tf.uint8) for name, shape in shapes.items()},
            'label': tf.constant(NO_LABEL, tf.int32),
            'mask': tf.constant(0, tf.float32),
            'index': tf.cast(record['index'], tf.int32),
        }
        if self.source.label_set_feature:
            example['label_set'] = tf.zeros([self.num_classes], tf.bool)
        return example

    def padded(self, batch: dict[str, np.ndarray] | None, size: int) -> dict[str, np.ndarray]:
        """Returns `batch`, None for an empty one, filled up to `size` with positions of no image.

        Their index is -1.
        """
        count = 0 if batch is None else len(batch['label'])
        if count == size:
            return batch
        full = {
            'image': np.zeros((size, *self.image_shape), np.uint8),
            'label': np.full(size, NO_LABEL, np.int32),
            'mask': np.zeros(size, np.float32),
            'index': np.full(size, -1, np.int32),
        }
        if self.source.label_set_feature:
            full['label_set'] = np.zeros((size, self.num_classes), bool)
        for name, values in (batch or {}).items():
            full[name][:count] = values
        return full


def is_unlabelled(batch: dict[str, np.ndarray]) -> np.ndarray:
    """Returns bool [B]: whether an image has an empty set of right classes.

    It is False for padding and for images that cannot be decoded.
    """
    if 'label_set' not in batch:
        return np.zeros(len(batch['label']), bool)
    return (batch['label'] != NO_LABEL) & ~batch['label_set'].any(1)


def wrong_label(label: int, num_classes: int, place: str) -> UserError:
    """Returns the error of a label that is none of the classes; `place` says where it is."""
    if label == NO_LABEL:  # tfds writes it for unlabelled test images
        return UserError(
            f'label {NO_LABEL}, for none, in {place}: the images of this split have no labels; '
            'name another split, or put them into a folder of images, SPLIT/CLASS/FILE'
        )
    return UserError(
        f'label {label} is outside the {count_of(num_classes, "class")} in {place}: repair or '
        'rebuild the dataset'
    )
