"""Names and probabilities of videos, against the network applied to frames chosen by hand."""

import jax
import numpy as np
import pytest
from helpers import clip_networks
from helpers.commands import run_command
from helpers.videos import HEIGHT, encoded, frame_of, write_file, write_files, write_folder
from PIL import Image

import resnet_rs
from resnet_rs import predict
from resnet_rs.config.stored import write_config
from resnet_rs.run import labelling
from resnet_rs.run.workdir import write_workdir
from resnet_rs.utils.errors import UserError

FRAMES, STRIDE, CLASSES = 4, 2, 7
LENGTHS = {'test': (12, 9)}


@pytest.fixture(scope='module')
def network():
    """A network of one stage, and its weights; frames of HEIGHT pixels are not resized."""
    config = clip_networks.small_config(image_size=HEIGHT, classes=CLASSES)
    config.data.update(frames=FRAMES, frame_stride=STRIDE)
    with pytest.MonkeyPatch.context() as patch:
        clip_networks.shorten(patch.setitem)
        yield config, *clip_networks.random_variables(config)


@pytest.fixture(scope='module')
def workdir(network, tmp_path_factory):
    config, _, variables = network
    directory = tmp_path_factory.mktemp('workdir')
    write_workdir(directory, config, {'raw': variables, 'ema': variables})
    return directory


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('folders')
    write_folder(root, LENGTHS)
    return root / 'test'


@pytest.fixture(scope='module')
def expected(network):
    """A function from label, starts of clips and left edges of crops to probabilities."""
    config, model, variables = network
    apply = jax.jit(lambda clips: jax.nn.softmax(model.apply(variables, clips, False)))

    def probabilities(label, starts, lefts):
        views = []
        for left in lefts:
            for start in starts:
                numbers = [start + STRIDE * place for place in range(FRAMES)]
                clip = np.stack([frame_of(number, label) for number in numbers])
                views.append(clip[:, :, left : left + HEIGHT])
        mean, std = np.float32(config.data.mean_rgb), np.float32(config.data.std_rgb)
        return np.mean([apply((view[None] - mean) / std)[0] for view in views], axis=0)

    return probabilities


def run(capsys, *arguments):
    return run_command(predict.main, capsys, *arguments)


def check(prediction, wanted):
    numbers = [number for number, _, _ in prediction.classes]
    assert numbers == np.argsort(-wanted).tolist()
    found = [probability for _, _, probability in prediction.classes]
    np.testing.assert_allclose(found, wanted[numbers], rtol=1e-4)


def test_the_middle_clip_of_folders(workdir, folders, expected):
    """Clips of 12 and of 9 frames start at (12 - 4 * 2) // 2 and (9 - 4 * 2) // 2."""
    files = predict.find_videos([str(folders)])
    assert [file.relative_to(folders).as_posix() for file in files] == [
        f'class{label}/video{number}' for label in range(2) for number in range(2)
    ]
    predictions = predict.predict(workdir, files, top=99, batch_size=3)
    for place, prediction in enumerate(predictions):
        check(prediction, expected(place // 2, [(2, 0)[place % 2]], [4]))


def test_files_have_the_predictions_of_their_frames(workdir, expected, tmp_path):
    pytest.importorskip('av')
    write_files(tmp_path, LENGTHS)
    [prediction] = predict.predict(workdir, [tmp_path / 'test' / 'class1' / 'video0.mkv'], top=99)
    check(prediction, expected(1, [2], [4]))


def test_views_are_averaged(workdir, folders, expected, capsys):
    """Two clips of three crops; python, an array of frames and the command agree."""
    wanted = expected(0, [0, 4], [0, 4, 8])
    video = folders / 'class0' / 'video0'
    arguments = (f'--workdir={workdir}', video, '--clips=2', '--crops=3', '--top=1')
    status, text, _ = run(capsys, *arguments)
    best = int(np.argmax(wanted))
    assert status == 0
    assert text.splitlines() == [str(video), f'  {wanted[best]:7.2%}  class {best}']

    loaded = resnet_rs.load(workdir)
    pixels = np.stack([frame_of(number) for number in range(12)])
    one_view = loaded([pixels])
    assert one_view.shape == (1, CLASSES)
    np.testing.assert_allclose(jax.nn.softmax(one_view)[0], expected(0, [2], [4]), rtol=1e-4)
    np.testing.assert_array_equal(loaded(pixels), loaded(video))


def test_a_strip_of_frames(workdir, folders, tmp_path, capsys):
    """Each video has a row with the frames of its middle clip."""
    grid = tmp_path / 'grid.png'
    status, _, _ = run(capsys, f'--workdir={workdir}', folders, f'--grid={grid}', '--top=2')
    assert status == 0
    with Image.open(grid) as picture:
        assert picture.width > 1000 and picture.height > 700
    strip = resnet_rs.load(workdir).preprocessing.strip(folders / 'class0' / 'video0')
    frames = [frame_of(number)[:, 4 : 4 + HEIGHT] for number in (2, 4, 6, 8)]
    gap = np.full((HEIGHT, 2, 3), 255)
    parts = [part for frame in frames for part in (gap, frame)][1:]
    np.testing.assert_array_equal(strip, np.concatenate(parts, axis=1))


def frames_at(folder, frames):
    folder.mkdir(parents=True)
    for number, content in enumerate(frames):
        (folder / f'{number}.png').write_bytes(content)
    return folder


def test_bad_videos(workdir, folders, tmp_path, capsys):
    """One line names the file and the remedy; --skip_bad leaves it out."""
    good = [encoded(frame_of(number)) for number in range(12)]
    short = frames_at(tmp_path / 'short', good[:3])
    damaged = frames_at(tmp_path / 'damaged', [*good[:4], b'no image', *good[5:]])
    sizes = frames_at(tmp_path / 'sizes', [*good[:4], encoded(frame_of(4)[:9]), *good[5:]])
    empty = frames_at(tmp_path / 'empty', [])
    image = damaged / '0.png'
    command = f'--workdir={workdir}'
    for video, message in (
        (damaged, 'damaged cannot be decoded: a frame is damaged, or no image; leave it out, or '),
        (sizes, 'sizes cannot be decoded: the frames of a video have different sizes; leave it'),
        (empty, 'empty holds no video; a video is a folder of frames (.jpg, '),
        (image, '0.png is an image; the network takes videos: name a folder of frames'),
        (tmp_path / 'none', 'none does not exist'),
    ):
        status, text, error = run(capsys, command, video)
        assert (status, text) == (2, '') and message in error and error.count('\n') == 1
    status, text, error = run(capsys, command, short, damaged, '--skip_bad')
    assert status == 1 and text.startswith(str(short)) and str(damaged) not in text
    assert error.splitlines()[0].startswith('skipped: ')
    assert '1 video of fewer than the 7 frames that a clip spans, which repeats them' in error


def test_bad_video_files(workdir, tmp_path, capsys):
    pytest.importorskip('av')
    (tmp_path / 'text.mp4').write_text('no video')
    write_file(tmp_path / 'good.mp4', 12)
    command = (f'--workdir={workdir}', tmp_path)
    status, text, error = run(capsys, *command)
    assert (status, text) == (2, '') and 'text.mp4 cannot be decoded: damaged, or no video' in error
    status, text, error = run(capsys, *command, '--skip_bad')
    assert status == 1 and text.startswith(str(tmp_path / 'good.mp4'))


def test_commands_for_images_alone_refuse_the_network(workdir):
    with pytest.raises(UserError, match='takes clips of 4 frames, and labelling and probes are'):
        labelling.find_images(workdir, 'test')


def test_a_network_of_single_frames_labels_images_and_no_videos(tmp_path):
    """Evaluation batches of videos have an axis of views, which labelling and probes do not."""
    root, images = tmp_path / 'videos', tmp_path / 'images'
    write_folder(root, LENGTHS)
    config = clip_networks.small_config(image_size=HEIGHT, classes=CLASSES)
    config.model.name = 'resnet_14'
    config.data.update(source='video_folder', data_dir=str(root), frames=1, frame_stride=STRIDE)
    config.data.eval_split = 'test'
    config.eval.update(clips=2, crops=3)
    write_config(tmp_path, config)
    with pytest.raises(UserError, match=r'data.frames is 1.*are for images; name other data with'):
        labelling.find_images(tmp_path, 'test')
    for label in ('a', 'b'):
        (images / 'test' / label).mkdir(parents=True)
        (images / 'test' / label / '1.png').write_bytes(encoded(frame_of(0)))
    settings = {'data.source': 'image_folder', 'data.data_dir': str(images), 'eval.batch_size': 8}
    found = labelling.find_images(tmp_path, 'test', settings)
    assert next(iter(found.batches()))['image'].shape == (8, HEIGHT, HEIGHT, 3)


def test_wrong_arguments(workdir, folders, capsys):
    status, _, error = run(capsys, f'--workdir={workdir}', folders, '--crops=2')
    assert status == 2 and '1 (the centre) or 3' in error
    with pytest.raises(UserError, match=r'a video is float32\[3, 4, 5, 3\]; preprocessing takes'):
        resnet_rs.load(workdir)(np.zeros((3, 4, 5, 3), 'f'))
