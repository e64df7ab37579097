"""From the frames of a video to clips: which frames, one crop for all of them, and views.

The sampler and the crops are those of TF Model Garden 2.20 (official/vision/ops/
preprocess_ops_3d.py, dataloaders/video_input.py). Frames are chosen first, and only those are read
and decoded. Wherever a function takes `frames`, they are what `frames_of` returns.
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet_rs.datasets import images, video_file
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.datasets.video_folder import frames_in
from resnet_rs.utils.rules import crop_fraction

# Of Model Garden's SequenceExamples, and of the videos of tfds.
SEQUENCE_FRAMES, SEQUENCE_LABEL, TFDS_FRAMES = 'image/encoded', 'clip/label/index', 'video'
CROP_ATTEMPTS = 100
_WHICH_START = 1  # separates the draw of the start from that of the crop


def frames_of(split: SplitInfo, data) -> tf.Tensor:
    """Returns the frames of a video, string [frames]: encoded, or the paths of their files.

    `data` is a serialized record, the path of a folder, or that of a video file, which is returned
    as it is, a string scalar; so are pixels, uint8 [frames, height, width, 3] (form 'pixels').
    """
    if split.video_form in ('file', 'pixels'):
        return data
    if split.video_form == 'folder':
        listed = tf.numpy_function(_files_of, [data[None]], tf.string, stateful=False)
        return tf.ensure_shape(listed, [None])
    feature = tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
    if split.video_form == 'sequence':
        wanted = {SEQUENCE_FRAMES: feature}
        return tf.io.parse_single_sequence_example(data, sequence_features=wanted)[1][
            SEQUENCE_FRAMES
        ]
    return tf.io.parse_single_example(data, {TFDS_FRAMES: feature})[TFDS_FRAMES]


def training_indices(count, frames: int, stride: int, seed):
    """Returns the numbers of the frames of a clip with a random start, int32 [frames].

    The start is uniform over those from which the clip fits into the `count` frames of the video,
    and over all frames of a shorter video, which is repeated.
    """
    span = (frames - 1) * stride
    most = tf.where(count > span, count - span, count)
    start = tf.random.stateless_uniform([], seed, maxval=most, dtype=tf.int32)
    return (start + tf.range(frames) * stride) % count


def evaluation_indices(count, clips: int, frames: int, stride: int):
    """Returns the numbers of the frames of evenly spaced clips, int32 [clips * frames].

    One clip is in the middle of the video, whose `count` frames are repeated if they are too few.
    """
    most = tf.maximum(0, count - frames * stride)
    starts = tf.cast(tf.linspace(0.0, tf.cast(most, tf.float32), clips), tf.int32)
    if clips == 1:
        starts = most[None] // 2
    return tf.reshape(starts[:, None] + tf.range(frames) * stride, [-1]) % count


def training_transform(data, split: SplitInfo) -> Callable:
    """Returns the function from the frames of a video and a seed, int32 [2], to a random clip.

    `data` is config.data. The clip is uint8 [data.frames, S, S, 3] with S = data.image_size, or
    [S, S, 3] where data.frames is 1. All its frames have the same crop.
    """
    size, area, ratio = data.image_size, tuple(data.crop_area), tuple(data.crop_ratio)

    def transform(frames, seed):
        start = tf.random.experimental.stateless_fold_in(seed, _WHICH_START)
        chosen = training_indices(_count(split, frames), data.frames, data.frame_stride, start)
        chosen = _chosen(split, frames, chosen)
        box = images.random_box(
            chosen.shape, None, area=area, ratio=ratio, seed=seed, attempts=CROP_ATTEMPTS
        )

        def crop(frame):
            cropped = chosen.crop(frame, box)
            return images.to_uint8(images.RESIZE[data.resize](cropped, size), rounded=False)

        clip = tf.map_fn(
            crop, chosen.frames, fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8)
        )
        return clip if data.frames > 1 else clip[0]

    return transform


def evaluation_transform(data, split: SplitInfo, size: int, clips: int, crops: int) -> Callable:
    """Returns the function from the frames of a video to its views, uint8.

    They are [crops * clips, data.frames, size, size, 3], without the frames where data.frames is 1.
    The shorter side of a frame is resized to `size` over the fraction of data.eval_crop; one crop
    is in the centre, three are the first, the middle and the last along the longer side.
    """
    shorter = round(size / crop_fraction(data.eval_crop, size))

    def transform(frames):
        count = _count(split, frames)
        chosen = evaluation_indices(count, clips, data.frames, data.frame_stride)
        chosen = _chosen(split, frames, chosen)
        height, width = chosen.shape[0], chosen.shape[1]
        resized = (
            tf.maximum(shorter, height * shorter // width),
            tf.maximum(shorter, width * shorter // height),
        )
        is_larger = tf.reduce_any(tf.stack(resized) != chosen.shape[:2])
        whole = tf.stack([0, 0, height, width])
        corners = _corners(*resized, size, crops)

        def views(frame):
            image = chosen.crop(frame, whole)
            image = tf.cond(
                is_larger,
                lambda: images.to_uint8(images.RESIZE[data.resize](image, resized), rounded=False),
                lambda: image,
            )
            return tf.stack([image[y : y + size, x : x + size] for y, x in corners])

        kind = tf.TensorSpec([crops, size, size, 3], tf.uint8)
        found = tf.map_fn(views, chosen.frames, fn_output_signature=kind)
        of_each = [data.frames] if data.frames > 1 else []
        found = tf.transpose(found, [1, 0, 2, 3, 4])
        return tf.reshape(found, [crops * clips, *of_each, size, size, 3])

    return transform


def of_all_frames(augment: Callable) -> Callable:
    """Returns the augmentation of a clip that draws the same for each of its frames."""

    def augment_clip(clip, seed):
        return tf.map_fn(lambda frame: augment(frame, seed), clip)

    return augment_clip


def decode_all(split: SplitInfo, frames) -> tf.Tensor:
    """Decodes every frame of a video; returns their number. Frames of another size are an error."""
    count = _count(split, frames)
    if split.video_form == 'file':
        decoded = tf.numpy_function(_decode_file, [frames[None]], tf.int64, stateful=False)
        return tf.cast(tf.ensure_shape(decoded, []), tf.int32)
    whole = _chosen(split, frames, tf.range(count))
    box = tf.stack([0, 0, whole.shape[0], whole.shape[1]])
    sizes = tf.map_fn(
        lambda frame: tf.size(whole.crop(frame, box)), whole.frames, fn_output_signature=tf.int32
    )
    return tf.where(tf.reduce_all(sizes > 0), count, 0)


def _count(split: SplitInfo, frames):
    """Returns the number of frames, int32, and raises an error for a video without frames."""
    if split.video_form == 'file':
        count = tf.numpy_function(_count_file, [frames[None]], tf.int64, stateful=False)
        count = tf.cast(tf.ensure_shape(count, []), tf.int32)
    else:
        count = tf.shape(frames)[0]
    check = tf.debugging.assert_positive(count, 'a video without frames')
    with tf.control_dependencies([check]):
        return tf.identity(count)


class _Chosen(NamedTuple):
    """The chosen frames of a video.

    frames: string [frames], encoded; or pixels uint8 [frames, height, width, 3].
    shape: of the first, int32 [3].
    crop: (frame, box) -> its pixels in the box, uint8; a frame of another shape is an error.
    """

    frames: tf.Tensor
    shape: tf.Tensor
    crop: Callable


def _chosen(split: SplitInfo, frames, numbers) -> _Chosen:
    if split.video_form in ('file', 'pixels'):
        if split.video_form == 'file':
            decoded = [frames[None], numbers]
            pixels = tf.numpy_function(_decode_file_frames, decoded, tf.uint8, stateful=False)
            pixels = tf.ensure_shape(pixels, [None, None, None, 3])
        else:
            pixels = tf.gather(frames, numbers)

        def crop_pixels(frame, box):
            y, x, height, width = tf.unstack(box)
            return frame[y : y + height, x : x + width]

        return _Chosen(pixels, tf.shape(pixels)[1:], crop_pixels)
    encoded = tf.gather(frames, numbers)
    if split.video_form == 'folder':
        encoded = tf.map_fn(tf.io.read_file, encoded, fn_output_signature=tf.string)
    shape = images.image_shape(encoded[0])
    return _Chosen(
        encoded, shape, lambda frame, box: images.decode_crop(frame, _same_box(shape, box))
    )


# The functions below take a list of one path, because a single string has different types in eager
# mode and in a graph.
def _files_of(folders: Sequence[bytes]) -> np.ndarray:
    """Returns the paths of the images in a folder, frame 9 before frame 10."""
    folder = os.fsdecode(folders[0])
    names = frames_in(tf.io.gfile.listdir(folder))
    return np.array([os.fsencode(f'{folder}/{name}') for name in names], object)


def _count_file(paths: Sequence[bytes]) -> np.int64:
    return np.int64(video_file.count_frames(os.fsdecode(paths[0])))


def _decode_file(paths: Sequence[bytes]) -> np.int64:
    return np.int64(video_file.decode_whole(os.fsdecode(paths[0])))


def _decode_file_frames(paths: Sequence[bytes], numbers: np.ndarray) -> np.ndarray:
    return video_file.decode_frames(os.fsdecode(paths[0]), numbers)


def _same_box(shape, box) -> Callable:
    """Returns a function that chooses `box` in images of `shape`; others are an error."""

    def choose(of_this):
        message = 'the frames of a video have different sizes'
        with tf.control_dependencies([tf.debugging.assert_equal(of_this[:2], shape[:2], message)]):
            return tf.identity(box)

    return choose


def _corners(height, width, size: int, crops: int) -> list:
    """Returns (y, x) of each crop of `size` in frames of `height` and `width`, int32."""
    if crops == 1:
        return [((height - size) // 2, (width - size) // 2)]

    def along(length):
        # Model Garden rounds half a pixel to the even one.
        middle = tf.cast(tf.round(tf.cast(length, tf.float32) / 2 - size // 2), tf.int32)
        return tf.zeros([], tf.int32), middle, length - size

    is_tall = height >= width
    return [
        (tf.where(is_tall, y, 0), tf.where(is_tall, 0, x))
        for y, x in zip(along(height), along(width), strict=True)
    ]
