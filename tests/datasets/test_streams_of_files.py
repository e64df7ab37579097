"""Parts and copies of the records of TFRecord files, against the lists that they must give."""

import collections

import numpy as np
import pytest
from helpers import prepared

from resnet_rs.datasets import order, records
from resnet_rs.datasets.labels import read_labels
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.datasets.pseudo_labels import Selection

BATCH, STREAMS, WINDOW = 12, 4, 5
SPLIT = 'train, 9 per class, seed 2'


@pytest.fixture(scope='module')
def info():
    """Ten classes of 21 images in 8 files of uneven length."""
    return of_ten_classes('tfrecord')


def of_ten_classes(file_format):
    """The set without ImageNet's classes that have no image; the ten others are numbered anew."""
    whole = find_dataset(prepared.config(file_format).data)
    labels = read_labels(whole.split('train'), file_format)
    return whole.of_classes(tuple(np.unique(labels).tolist()))


def selection_of(count):
    """Copies 0 to 3 of each example, by a seed."""
    counts = np.random.default_rng(0).integers(0, 4, count)
    examples = np.repeat(np.arange(count), counts)
    copies = np.concatenate([np.arange(copies) for copies in counts])
    return Selection(examples, copies, np.zeros(10, np.int64))


def read(info, split, selection, steps, first=0, processes=1):
    """The elements of batches, [steps, BATCH]: (epoch, index, copy, label)."""
    parts = []
    for place in range(processes):
        process = order.ProcessOrder(
            seed=7,
            batch_size=BATCH,
            streams=STREAMS,
            window=WINDOW,
            process_index=place,
            process_count=processes,
        )
        found = records.training_records(
            info.split(split),
            info.file_format,
            process,
            first_step=first,
            threads=2,
            selection=selection,
        )
        found = found.map(
            lambda e: (e['epoch'], e['index'], e.get('copy', np.int64(0)), e['label'])
        )
        local = BATCH // processes
        rows = list(found.take(steps * local).as_numpy_iterator())
        parts.append(np.array(rows).reshape(steps, local, 4))
    return np.concatenate(parts, 1)


def test_an_epoch_holds_every_copy_once_from_any_step(info):
    count = info.split(SPLIT).num_examples
    selection = selection_of(count)
    length = len(selection.examples)
    steps = -(-2 * length // BATCH)
    found = read(info, SPLIT, selection, steps)
    labels = np.array(list(whole_labels(info, SPLIT)))
    flat = found.reshape(-1, 4)
    np.testing.assert_array_equal(flat[:, 3], labels[flat[:, 1]])
    seen = collections.Counter(map(tuple, flat[:, :3]))
    assert max(seen.values()) == 1
    wanted = set(zip(selection.examples.tolist(), selection.copies.tolist(), strict=True))
    of_epoch = [{key[1:] for key in seen if key[0] == epoch} for epoch in (0, 1)]
    assert of_epoch[0] == wanted and of_epoch[1] <= wanted
    assert len(of_epoch[1]) >= length - STREAMS
    for first in (1, 7, steps - 2):
        np.testing.assert_array_equal(read(info, SPLIT, selection, 2, first), found[first:][:2])
    np.testing.assert_array_equal(read(info, SPLIT, selection, 9, processes=2), found[:9])


def whole_labels(info, split):
    part = info.split(split)
    elements = records.sequential_records(part, info.file_format, 0, part.num_examples, threads=2)
    for number, element in enumerate(elements.as_numpy_iterator()):
        assert element['index'] == number
        yield element['label']


def test_a_draw_of_each_format_is_numpys(info):
    other = of_ten_classes('array_record')
    parts = [each.split(SPLIT) for each in (info, other)]
    assert parts[0].num_examples == parts[1].num_examples == 90
    labels = [np.array(list(whole_labels(each, SPLIT))) for each in (info, other)]
    for found in labels:
        np.testing.assert_array_equal(np.bincount(found), 9)
    whole = np.array(list(whole_labels(info, 'train')))
    expected = np.sort(
        np.concatenate(
            [
                np.random.default_rng([2, old]).permutation(np.flatnonzero(whole == new))[:9]
                for new, old in enumerate(info.classes)
            ]
        )
    )
    np.testing.assert_array_equal(parts[0].records, expected)
    np.testing.assert_array_equal(labels[0], whole[expected])


def test_parts_of_a_range_in_file_order(info):
    part = info.split(SPLIT)
    whole = np.array(list(whole_labels(info, SPLIT)))
    found = records.records_of_ranges(part, info.file_format, [(3, 8), (80, 90)], threads=2)
    found = list(found.as_numpy_iterator())
    places = [*range(3, 8), *range(80, 90)]
    assert [element['index'] for element in found] == places
    np.testing.assert_array_equal([element['label'] for element in found], whole[places])
