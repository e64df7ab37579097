"""Videos: which frames of which video, with which crop, from each kind of data."""

import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from helpers import prepared
from helpers.videos import (
    HEIGHT,
    LENGTHS,
    WIDTH,
    encoded,
    frame_of,
    write_files,
    write_folder,
)

import input_pipeline
from resnet_rs.augment.geometric import rotate
from resnet_rs.datasets import clips, digits, moving_digits, pipeline
from resnet_rs.datasets.prepare import prepare
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.datasets.video_folder import find_sequence_examples
from resnet_rs.utils.errors import UserError

SEQUENCES = SplitInfo('train', 1, video_form='sequence')


def data(**settings):
    config = prepared.small_config(image_size=16)
    config.model.name = 'resnet_3d_rs_14'
    config.data.resize = 'bilinear'
    config.data.frames, config.data.frame_stride = 4, 2
    config.data.eval_crop = 'fraction 1'
    config.update_from_flattened_dict(settings)
    return config


def numbers_of(clip):
    """The numbers of the frames of a clip [..., height, width, 3]."""
    assert (clip[..., 0] == clip[..., :1, :1, 0]).all()
    return clip[..., 0, 0, 0] // 10


def test_evaluation_takes_evenly_spaced_clips():
    """The starts are those of Model Garden for a video of 300 frames."""
    indices = clips.evaluation_indices(tf.constant(300), 10, 32, 2).numpy().reshape(10, 32)
    assert indices[:, 0].tolist() == [0, 26, 52, 78, 104, 131, 157, 183, 209, 236]
    assert (np.diff(indices) == 2).all()
    middle = clips.evaluation_indices(tf.constant(300), 1, 32, 2).numpy()
    assert middle.tolist() == list(range(118, 182, 2))
    short = clips.evaluation_indices(tf.constant(5), 2, 4, 2).numpy()
    assert short.tolist() == [0, 2, 4, 1] * 2


def test_training_takes_every_start_that_fits():
    def starts(count):
        draw = tf.function(
            lambda seed: clips.training_indices(tf.constant(count), 4, 2, seed),
            input_signature=[tf.TensorSpec([2], tf.int32)],
        )
        found = np.array([draw(tf.constant([1, seed])).numpy() for seed in range(150)])
        np.testing.assert_array_equal(found, (found[:, :1] + [0, 2, 4, 6]) % count)
        return sorted(set(found[:, 0].tolist()))

    assert starts(12) == list(range(6))  # below 12 - 3 * 2
    assert starts(5) == list(range(5))  # a short video is repeated


def test_a_clip_has_one_crop_and_consecutive_frames():
    transform = clips.training_transform(data().data, SEQUENCES)
    frames = tf.constant([encoded(frame_of(number)) for number in range(12)])
    columns = set()
    for seed in range(6):
        clip = transform(frames, tf.constant([seed, 0])).numpy()
        assert clip.shape == (4, 16, 16, 3) and clip.dtype == np.uint8
        assert set(np.diff(numbers_of(clip))) == {2}
        assert (clip[..., 2] == clip[:1, :, :, 2]).all()
        columns.add(tuple(clip[0, 0, :, 2].tolist()))
    assert len(columns) > 1
    still = clips.training_transform(data(**{'data.frames': 1}).data, SEQUENCES)
    assert still(frames, tf.constant([1, 0])).shape == (16, 16, 3)


@pytest.mark.parametrize('size, crops', [(20, 3), (16, 3), (20, 1)])
def test_views_are_the_crops_along_the_longer_side(size, crops):
    """Compares with numpy; frames whose shorter side is the crop's are not resized."""
    config = data(**{'data.eval_crop': f'fraction {size / HEIGHT:g}'})
    transform = clips.evaluation_transform(config.data, SEQUENCES, size, 2, crops)
    frames = tf.constant([encoded(frame_of(number)) for number in range(12)])
    views = transform(frames).numpy()
    assert views.shape == (crops * 2, 4, size, size, 3)
    assert numbers_of(views).tolist() == [[0, 2, 4, 6], [4, 6, 8, 10]] * crops
    lefts = (0, WIDTH // 2 - size // 2, WIDTH - size) if crops == 3 else ((WIDTH - size) // 2,)
    for view, left in zip(views[::2], lefts, strict=True):
        expected = frame_of(0)[:size, left : left + size, 2]
        np.testing.assert_array_equal(view[0, ..., 2], expected)


def test_larger_frames_are_resized_first():
    """Compares 20 x 28 pixels resized to a shorter side of 10 with TensorFlow, truncated."""
    transform = clips.evaluation_transform(data().data, SEQUENCES, 10, 1, 1)
    frames = tf.constant([encoded(frame_of(number)) for number in range(8)])
    resized = tf.cast(tf.image.resize(frame_of(0), (10, 14)), tf.uint8).numpy()
    view = transform(frames).numpy()[0, 0]
    np.testing.assert_array_equal(view[..., 2], resized[:, 2:12, 2])


def test_all_frames_have_the_augmentation_of_one_draw():
    """The operation and its sign: equal frames stay equal, and both signs of Rotate occur."""
    config = data(**{'data.augment': 'randaugment', 'data.randaugment_layers': 2})
    augment = tf.function(pipeline.training_transforms(config, SEQUENCES).augment)
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    results = []
    for seed in range(30):
        clip = augment(tf.constant(np.stack([frame] * 4)), tf.constant([seed, 1])).numpy()
        np.testing.assert_array_equal(clip, np.stack([clip[0]] * 4))
        results.append(clip[0].tobytes())
    assert len(set(results)) > 20  # of 15 * 15 pairs of operations

    config.data.randaugment_layers, config.data.randaugment_operations = 1, ('Rotate',)
    augment = tf.function(pipeline.training_transforms(config, SEQUENCES).augment)
    turned = {
        sign: rotate(tf.constant(frame), 30.0, tf.constant(sign), 'constant').numpy().tobytes()
        for sign in (0, 1)
    }
    found = set()
    for seed in range(12):
        clip = augment(tf.constant(np.stack([frame] * 3)), tf.constant([seed, 1])).numpy()
        signs = [[s for s in turned if turned[s] == image.tobytes()] for image in clip]
        assert signs in ([[0]] * 3, [[1]] * 3)
        found.add(signs[0][0])
    assert found == {0, 1}


@pytest.fixture(scope='module')
def video_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('videos')
    write_folder(root)
    return root


@pytest.fixture(scope='module')
def video_files(tmp_path_factory):
    pytest.importorskip('av')
    root = tmp_path_factory.mktemp('files')
    write_files(root)
    return root


@pytest.fixture(scope='module')
def sequence_examples(tmp_path_factory):
    root = tmp_path_factory.mktemp('sequences')
    (root / 'class_names.txt').write_text('class0\nclass1\n')
    for split, lengths in LENGTHS.items():
        with tf.io.TFRecordWriter(str(root / f'{split}-00000-of-00001.tfrecord')) as file:
            for label, length in itertools.product(range(2), lengths):
                example = tf.train.SequenceExample()
                example.context.feature['clip/label/index'].int64_list.value.append(label)
                frames = example.feature_lists.feature_list['image/encoded'].feature
                for index in range(length):
                    frames.add().bytes_list.value.append(encoded(frame_of(index, label)))
                file.write(example.SerializeToString())
    return root


@pytest.fixture(params=('video_folder', 'video_files', 'sequence_examples'))
def source(request):
    directory = request.getfixturevalue(request.param)
    return data(
        **{
            'batch_size': 4,
            'data.source': request.param.replace('files', 'folder'),
            'data.data_dir': str(directory),
            'data.crop_area': (1.0, 1.0),
            'data.crop_ratio': (1.4, 1.4),
            'eval.batch_size': 4,
            'eval.image_size': 20,
            'eval.clips': 2,
            'eval.crops': 3,
        }
    )


def taken(batches, count):
    return [{k: np.array(v) for k, v in next(batches).items()} for _ in range(count)]


def test_training_batches(source):
    """A batch is a function of the step: after a restart, and on two processes."""
    batches = taken(input_pipeline.train_batches(source), 4)
    for batch in batches:
        assert batch['image'].shape == (4, 4, 16, 16, 3) and batch['image'].dtype == np.uint8
        np.testing.assert_array_equal(batch['image'][:, 0, 0, 0, 1], batch['label'] * 100)
    indices = np.concatenate([batch['index'] for batch in batches])
    assert sorted(indices[:12].tolist()) == sorted([*range(6)] * 2)  # two epochs of six videos
    again = taken(input_pipeline.train_batches(source, first_step=2), 2)
    halves = [
        taken(input_pipeline.train_batches(source, process_index=k, process_count=2), 4)
        for k in range(2)
    ]
    for name in ('image', 'label', 'index'):
        for batch, other in zip(batches[2:], again, strict=True):
            np.testing.assert_array_equal(batch[name], other[name])
        for batch, *parts in zip(batches, *halves, strict=True):
            np.testing.assert_array_equal(batch[name], np.concatenate([p[name] for p in parts]))


def test_evaluation_takes_every_video_once(source):
    batches = [
        batch
        for k in range(2)
        for batch in input_pipeline.eval_batches(source, process_index=k, process_count=2)
    ]
    index, mask, label = (
        np.concatenate([b[n] for b in batches]) for n in ('index', 'mask', 'label')
    )
    assert index[mask > 0].tolist() == [0, 1, 2, 3] and label[mask > 0].tolist() == [0, 0, 1, 1]
    views = np.concatenate([batch['image'] for batch in batches])
    assert views.shape[1:] == (6, 4, 20, 20, 3)
    assert numbers_of(views[0])[:2].tolist() == [[0, 2, 4, 6], [2, 4, 6, 8]]


def test_files_of_another_split_are_not_taken(sequence_examples, tmp_path):
    """A split has its own files alone, also where its name begins another one."""
    (tmp_path / 'class_names.txt').write_text('class0\nclass1\n')
    [file] = sequence_examples.glob('train-*')
    names = ['train-00000-of-00002.tfrecord', 'train_1.tfrecord', 'train.tfrecord-00003-of-00004']
    names += ['train.tfrecord', 'train.5.tfrecord.gz']
    others = ['train_held_out-00000-of-00001.tfrecord', 'trained.tfrecord', 'train2-1.tfrecord']
    for name in [*names, *others, 'validation-00000-of-00001.tfrecord']:
        (tmp_path / name).symlink_to(file)
    info = find_sequence_examples(tmp_path, ('train', 'train2', 'val'))
    found = {
        name: [pathlib.Path(file).name for file in split.files]
        for name, split in info.splits.items()
    }
    assert found == {'train': sorted(names), 'train2': ['train2-1.tfrecord']}


def linked(source, root):
    """The videos of `source` under `root`, as links, so that a test may spoil one."""
    for place in source.glob('*/*/*'):
        copy = root / place.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if place.is_file():
            copy.symlink_to(place)
            continue
        copy.mkdir()
        for file in place.iterdir():
            (copy / file.name).symlink_to(file)


def replace_frame(folder, content, number=1):
    (folder / f'frame{number}.png').unlink()
    (folder / f'frame{number}.png').write_bytes(content)


@pytest.mark.parametrize(
    'spoil, kind',
    [
        (lambda folder: [file.unlink() for file in folder.iterdir()], 'video_folder'),
        (lambda folder: replace_frame(folder, b'no image'), 'video_folder'),
        (lambda folder: replace_frame(folder, encoded(frame_of(1)[:9])), 'video_folder'),
        (lambda file: (file.unlink(), file.write_bytes(b'no video')), 'video_files'),
    ],
    ids=('no frame', 'a damaged frame', 'another size', 'a damaged file'),
)
def test_bad_videos_are_named_or_skipped(spoil, kind, request, tmp_path):
    """Spoils the shortest training video, of which every clip has every frame."""
    linked(request.getfixturevalue(kind), tmp_path)
    [bad] = (tmp_path / 'train' / 'class1').glob('video2*')
    spoil(bad)
    config = data(
        **{
            'batch_size': 6,
            'data.source': 'video_folder',
            'data.data_dir': str(tmp_path),
            'data.frame_stride': 1,
        }
    )
    with pytest.raises(UserError, match='cannot decode the video in .*class1/video2.*=skip'):
        next(input_pipeline.train_batches(config))
    config.data.corrupt_images = 'skip'
    batches = input_pipeline.train_batches(config)
    batch = next(batches)
    assert batches.corrupt_images == 1
    assert batch['index'][batch['mask'] == 0].tolist() == [5]


def test_a_frame_that_no_clip_takes_may_be_damaged(video_folder, tmp_path):
    """Evaluation takes the frames 1, 3, 5 and 7 of ten."""
    linked(video_folder, tmp_path)
    replace_frame(tmp_path / 'validation' / 'class0' / 'video0', b'no image', number=0)
    config = data(**{'data.source': 'video_folder', 'data.data_dir': str(tmp_path)})
    for batch in input_pipeline.eval_batches(config):
        assert (batch['mask'] > 0).sum() == 4


def test_moving_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, 'TRAIN_EXAMPLES', 8)
    monkeypatch.setattr(digits, 'EVAL_EXAMPLES', 4)
    prepare('moving_digits', data_dir=str(tmp_path))
    config = data(
        **{
            'batch_size': 16,
            'data.name': 'moving_digits',
            'data.data_dir': str(tmp_path),
            'data.image_size': 32,
            'data.frame_stride': 1,
            'data.crop_area': (1.0, 1.0),
            'data.crop_ratio': (1.0, 1.0),
            'data.flip': False,
        }
    )
    batch = next(input_pipeline.train_batches(config))
    assert sorted(batch['label'].tolist()) == sorted([*range(8)] * 2)
    velocities = list(moving_digits.CLASSES.values())
    for clip, label in zip(batch['image'], batch['label'], strict=True):
        for before, after in itertools.pairwise(clip):
            np.testing.assert_array_equal(np.roll(before, velocities[label], (0, 1)), after)


def test_a_frame_of_a_moving_digit_has_no_preferred_place():
    """The mean over all starts is the same picture for every class and frame."""
    scan = np.arange(64, dtype=np.uint8).reshape(8, 8)
    starts = list(itertools.product(range(0, 32, 4), repeat=2))
    for velocity in ((0, -1), (3, 0)):
        videos = np.array([moving_digits.moving(scan, start, velocity) for start in starts])
        means = videos.mean((0, 2, 3))
        np.testing.assert_allclose(means, means[0])
        assert (videos > 0).any((2, 3)).all()


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'data.frames': 0}, 'holds videos, but data.frames is 0'),
        (
            {'eval.clips': 1000, 'eval.crops': 3, 'data.host_memory_gib': 0.1},
            'the evaluation needs',
        ),
    ],
)
def test_settings_that_do_not_fit_the_data(settings, message, video_folder):
    config = data(**{'data.source': 'video_folder', 'data.data_dir': str(video_folder)} | settings)
    with pytest.raises(UserError, match=message):
        input_pipeline.eval_batches(config)
