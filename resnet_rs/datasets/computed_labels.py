"""Labels that are computed from other features of a tfds set: seven tasks of VTAB.

Source: google-research/task_adaptation, task_adaptation/data/{clevr,kitti,dsprites,smallnorb}.py.
"""

import dataclasses
from collections.abc import Callable, Collection

_OBJECTS = {'clevr': 'objects/pixel_coords', 'kitti': 'objects/location'}  # float [objects, 3]


@dataclasses.dataclass(frozen=True)
class ComputedLabel:
    """A label of a record.

    features: {name in a record: 'int64' or 'float32'} of those that it is computed from.
    class_names: the names of the classes in the order of the labels.
    compute: from {name: tf.RaggedTensor [records, None]}, the values of each record in a row, to
      the labels, int64 [records].
    pixel_scale: factor of the stored pixels.
    """

    features: dict[str, str]
    class_names: tuple[str, ...]
    compute: Callable
    pixel_scale: int = 1


def _count(least: int) -> Callable:
    """Returns the number of objects, counted from `least`."""
    return lambda values: values['objects/size'].row_lengths() - least


def _third(values):
    """Returns the third of three coordinates of every object, float [records, None]."""
    import tensorflow as tf

    coordinates = tf.reshape(values.flat_values, [-1, 3])
    return tf.RaggedTensor.from_row_lengths(coordinates[:, 2], values.row_lengths() // 3)


def _distance_to_object(values):
    import tensorflow as tf

    nearest = tf.reduce_min(_third(values[_OBJECTS['clevr']]), 1)
    return _bin(nearest, (8.0, 8.5, 9.0, 9.5, 10.0))


def _distance_to_vehicle(values):
    """Returns the bin of the nearest car, van or truck (types 0 to 2), the last one for none."""
    import tensorflow as tf

    depth = _third(values[_OBJECTS['kitti']])
    is_vehicle = values['objects/type'] < 3
    none = tf.fill([depth.nrows(), 1], 1000.0)
    nearest = tf.reduce_min(tf.concat([tf.ragged.boolean_mask(depth, is_vehicle), none], 1), 1)
    return _bin(nearest, (8.0, 20.0, 999.0))


def _bin(values, bounds: tuple[float, ...]):
    """Returns how many of `bounds` are below each value, int64."""
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(values[:, None] > tf.constant(bounds), tf.int64), 1)


def _grouped(name: str, count: int, groups: int, pixel_scale: int = 1) -> ComputedLabel:
    """Returns the label of a feature with `count` values, neighbours of which share a class."""

    def compute(values):
        import tensorflow as tf

        single = tf.cast(values[name].flat_values, tf.float32)
        return tf.cast(tf.math.floordiv(single, count / groups), tf.int64)

    return ComputedLabel({name: 'int64'}, _numbers(groups), compute, pixel_scale)


def _numbers(count: int, first: int = 0) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, first + count))


# By the setting data.label. dsprites has pixels of 0 and 1.
COMPUTED_LABELS = {
    'count_all': ComputedLabel({'objects/size': 'int64'}, _numbers(8, 3), _count(3)),
    'closest_object_distance': ComputedLabel(
        {_OBJECTS['clevr']: 'float32'},
        ('below 8', '8 to 8.5', '8.5 to 9', '9 to 9.5', '9.5 to 10', 'above 10'),
        _distance_to_object,
    ),
    'closest_vehicle_distance': ComputedLabel(
        {_OBJECTS['kitti']: 'float32', 'objects/type': 'int64'},
        ('below 8 m', '8 to 20 m', 'above 20 m', 'no vehicle'),
        _distance_to_vehicle,
    ),
    'x_position': _grouped('label_x_position', 32, 16, 255),
    'orientation': _grouped('label_orientation', 40, 16, 255),
    'azimuth': _grouped('label_azimuth', 18, 18),
    'elevation': _grouped('label_elevation', 9, 9),
}


def labels_of(features: Collection[str]) -> tuple[str, ...]:
    """Returns the labels that are computed from features alone that are among `features`."""
    return tuple(
        name for name, label in COMPUTED_LABELS.items() if set(label.features) <= set(features)
    )


def pixel_scale(data) -> int:
    """Returns the factor of the stored pixels of config.data."""
    label = data.get('label', '')  # the preprocessing of a loaded network has none
    return COMPUTED_LABELS[label].pixel_scale if label else 1
