"""Frames of video files, chosen by seeking, against all frames of a file decoded in order."""

import fractions
import shutil

import numpy as np
import pytest
from helpers.videos import HEIGHT, WIDTH, frame_of, write_file

from resnet_rs.datasets import video_file
from resnet_rs.datasets.clip_preprocessing import find_videos
from resnet_rs.datasets.video_file import VideoError
from resnet_rs.datasets.video_folder import find_video_folder
from resnet_rs.utils.errors import UserError

av = pytest.importorskip('av')

FRAMES = 25
KINDS = {
    'a.mp4': {},
    'no_b_frames.mkv': {'max_b_frames': 0},
    'mpeg4.avi': {'codec': 'mpeg4'},
    'b_frames.avi': {'codec': 'mpeg4', 'max_b_frames': 2},
    'jpegs.avi': {'codec': 'mjpeg'},
    'vp8.webm': {'codec': 'libvpx'},
    'lossless.mkv': {'codec': 'ffv1'},
}


@pytest.fixture(scope='module', params=KINDS)
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp('files') / request.param
    write_file(path, FRAMES, **KINDS[request.param])
    return path


def test_chosen_frames_are_those_of_the_whole_video(file):
    """Compares to the bit, and with the pixels that were encoded."""
    with av.open(str(file)) as container:
        everything = [video_file.to_rgb(frame) for frame in container.decode(video=0)]
    assert video_file.count_frames(str(file)) == len(everything) == FRAMES
    whole = video_file.decode_frames(str(file), range(FRAMES))
    assert whole.shape[1] in (HEIGHT, 4 * HEIGHT) and whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, everything)
    means = whole[..., 0].mean((1, 2))
    expected = [frame_of(number)[..., 0].mean() for number in range(FRAMES)]
    np.testing.assert_allclose(means, expected, atol=0 if 'lossless' in file.name else 4)
    for numbers in ([0], [24], [7, 9, 11, 13], [23, 24, 0, 1], [5, 5, 12, 5]):
        found = video_file.decode_frames(str(file), numbers)
        np.testing.assert_array_equal(found, whole[numbers])


def test_frames_are_not_decoded_before_the_key_frame(tmp_path, monkeypatch):
    """A clip from the end of a long video costs its own frames, not the whole video."""
    write_file(tmp_path / 'long.mp4', 120)
    decoded = []
    original = video_file._from_here

    def counting(container, stream):
        for frame in original(container, stream):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_file, '_from_here', counting)
    video_file.decode_frames(str(tmp_path / 'long.mp4'), [112, 114, 116, 118])
    assert 4 <= len(decoded) <= 16


def test_frames_are_turned_upright(tmp_path):
    """Turns by a quarter counter-clockwise; blue rises to the right in the stored frames."""
    write_file(tmp_path / 'turned.mp4', 3, rotation=90)
    frame = video_file.decode_frames(str(tmp_path / 'turned.mp4'), [1])[0]
    assert frame.shape == (4 * WIDTH, 4 * HEIGHT, 3)
    assert frame[0, :, 2].mean() > 200 and frame[-1, :, 2].mean() < 30


def of_sound(path):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('aac', rate=8000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), 'f'), format='fltp', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def of_two_sizes(path):
    """An AVI file of JPEGs may change its size at any frame."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mjpeg', rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuvj420p'
        small = av.CodecContext.create('mjpeg', 'w')
        small.width, small.height, small.pix_fmt = 16, 16, 'yuvj420p'
        small.time_base = fractions.Fraction(1, 25)
        for number in range(6):
            context = stream if number < 3 else small
            pixels = np.full((context.height, context.width, 3), 99, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            frame.pts = number
            for packet in context.encode(frame):
                packet.stream, packet.time_base = stream, small.time_base
                packet.pts = packet.dts = number
                container.mux(packet)


def damaged_in_the_middle(path):
    write_file(path, FRAMES)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for position, size in packets[6:12]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize(
    'name, write, message',
    [
        ('text.mp4', lambda path: path.write_text('no video'), 'no video that FFmpeg reads'),
        ('empty.mp4', lambda path: path.write_bytes(b''), 'no video that FFmpeg reads'),
        ('sound.mp4', of_sound, 'a video without frames'),
        ('sizes.avi', of_two_sizes, 'different sizes'),
        ('damaged.mp4', damaged_in_the_middle, 'damaged|cannot be decoded'),
    ],
)
def test_bad_files(name, write, message, tmp_path):
    write(tmp_path / name)
    with pytest.raises(VideoError, match=message):
        video_file.decode_whole(str(tmp_path / name))


def test_a_broken_link_is_no_video(tmp_path):
    (tmp_path / 'link.mp4').symlink_to(tmp_path / 'none.mp4')
    with pytest.raises(VideoError, match='cannot be read .No such file'):
        video_file.count_frames(str(tmp_path / 'link.mp4'))


def test_frames_before_the_damage_are_read(tmp_path):
    damaged_in_the_middle(tmp_path / 'damaged.mp4')
    assert len(video_file.decode_frames(str(tmp_path / 'damaged.mp4'), range(4))) == 4


def test_without_the_decoder(tmp_path, monkeypatch):
    for split in ('train', 'validation'):
        (tmp_path / split / 'class').mkdir(parents=True)
        (tmp_path / split / 'class' / 'one.mp4').touch()
    monkeypatch.setattr(video_file.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='one.mp4 is a video file, which PyAV reads; .*pip install'):
        find_video_folder(tmp_path, ('train', 'validation'))


def test_named_folders_have_the_videos_that_training_reads(tmp_path):
    """A thumbnail beside files of videos is no frame, and hidden files and folders do not count."""
    folder = tmp_path / 'train' / 'a'
    (folder / '@eaDir').mkdir(parents=True)
    for name in ('9.mp4', '10.MOV', '._9.mp4', 'thumbnail.jpg', '@eaDir/t.mp4'):
        (folder / name).touch()
    (folder / 'cycle').symlink_to(tmp_path / 'train')
    assert find_videos([str(folder)]) == [folder / '9.mp4', folder / '10.MOV']
    (folder / 'cycle').unlink()
    (folder / 'frames').mkdir()
    (folder / 'frames' / '1.jpg').touch()
    assert find_videos([str(folder)])[-1] == folder / 'frames'
    shutil.rmtree(folder / 'frames')
    found = find_video_folder(tmp_path, ('train',)).splits['train'].images
    assert found == (str(folder / '9.mp4'), str(folder / '10.MOV'))


def test_a_split_has_one_kind_of_videos(tmp_path):
    (tmp_path / 'train' / 'class' / 'frames').mkdir(parents=True)
    (tmp_path / 'train' / 'class' / 'one.mp4').touch()
    with pytest.raises(UserError, match='class/frames, and files of videos, such as .*one.mp4'):
        find_video_folder(tmp_path, ('train',))
