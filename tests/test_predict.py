"""Names and probabilities of images, against the network applied to pixels cut out by hand."""

import csv
import io
import json
import os
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.commands import run_command
from helpers.hash_filled import hash_filled_variables
from PIL import Image, ImageOps

from resnet_rs import predict
from resnet_rs.config import default_config
from resnet_rs.datasets import image_file
from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.datasets.images import evaluation_transform
from resnet_rs.run.class_names import class_names
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.steps import model_of
from resnet_rs.utils.errors import UserError

SIZE = 32
CLASSES = 7


@pytest.fixture(scope='module')
def network():
    config = default_config()
    config.model.update({'name': 'resnet_14', 'width_multiplier': 0.25, 'num_classes': CLASSES})
    config.data.image_size = SIZE
    model = model_of(config, batch_norm_group_size=None, dtype='float32')
    ema = hash_filled_variables(model, 'float32')
    raw = jax.tree.map(lambda leaf: leaf * 0.9, ema)
    return config, model, {'raw': raw, 'ema': ema}


@pytest.fixture(scope='module')
def workdir(network, tmp_path_factory):
    config, _, weights = network
    directory = tmp_path_factory.mktemp('workdir')
    write_workdir(directory, config, weights)
    return directory


@pytest.fixture(scope='module')
def pixels():
    """Twice the size: the padding of 32 pixels cuts out exactly the middle half, unscaled."""
    return np.random.default_rng(0).integers(0, 256, (5, 2 * SIZE, 2 * SIZE, 3), np.uint8)


@pytest.fixture(scope='module')
def folder(pixels, tmp_path_factory):
    directory = tmp_path_factory.mktemp('images')
    for index, image in enumerate(pixels):
        parent = directory / ('sub' if index > 2 else '.')
        parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(parent / f'{index}.png')
    (directory / 'notes.txt').write_text('no image, and not looked at')
    return directory


def expected(network, images, which='ema'):
    """Probabilities [batch, classes] in plain numpy around the network."""
    _, model, weights = network
    middle = images[:, SIZE // 2 : -SIZE // 2, SIZE // 2 : -SIZE // 2].astype(np.float32) / 255
    inputs = (middle - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    logits = np.asarray(model.apply(weights[which], inputs, False), np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def run(capsys, *arguments):
    return run_command(predict.main, capsys, *arguments)


@pytest.mark.parametrize('which', ['ema', 'raw'])
def test_probabilities(which, network, workdir, folder, pixels):
    """Five images in batches of two: the last batch is filled up."""
    files = predict.find_images([str(folder)])
    assert [f.name for f in files] == [f'{i}.png' for i in range(5)]
    predictions = predict.predict(workdir, files, top=99, batch_size=2, weights=which)
    wanted = expected(network, pixels, which)
    for file, prediction, row in zip(files, predictions, wanted, strict=True):
        assert prediction.file == str(file)
        numbers = [number for number, _, _ in prediction.classes]
        assert numbers == np.argsort(-row).tolist()
        probabilities = [probability for _, _, probability in prediction.classes]
        np.testing.assert_allclose(probabilities, row[numbers], rtol=1e-4)
        assert [name for _, name, _ in prediction.classes] == [f'class {n}' for n in numbers]


def test_output_formats(network, workdir, folder, pixels, capsys):
    row = expected(network, pixels[:1])[0]
    best = np.argsort(-row)[:2].tolist()
    command = (f'--workdir={workdir}', folder / '0.png', '--top=2')
    status, text, _ = run(capsys, *command)
    assert status == 0
    assert text.splitlines() == [str(folder / '0.png')] + [
        f'  {row[number]:7.2%}  class {number}' for number in best
    ]
    _, text, _ = run(capsys, *command, '--json')
    [entry] = json.loads(text)
    assert entry['file'] == str(folder / '0.png')
    assert [c['class'] for c in entry['classes']] == best
    np.testing.assert_allclose([c['probability'] for c in entry['classes']], row[best], rtol=1e-4)
    _, text, _ = run(capsys, *command, '--csv')
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r['file'], r['rank'], r['class'], r['name']) for r in rows] == [
        (str(folder / '0.png'), str(rank), str(number), f'class {number}')
        for rank, number in enumerate(best, start=1)
    ]


def test_grid(network, workdir, folder, tmp_path, capsys):
    """Each image stands above its bars; nothing is written over, and more do not fit."""
    grid = tmp_path / 'grid.png'
    command = (f'--workdir={workdir}', folder, f'--grid={grid}')
    status, text, _ = run(capsys, *command, '--top=3')
    assert status == 0 and str(folder / '0.png') in text
    with Image.open(grid) as picture:
        found = np.asarray(picture.convert('RGB'))
    assert found.shape[0] > 600 and found.shape[1] > 1000 and len(np.unique(found)) > 200
    assert [path.name for path in tmp_path.iterdir()] == ['grid.png']
    written = grid.read_bytes()
    for wrong, message in (
        (grid, 'exists already; give another --grid'),
        (tmp_path / 'grid.jpg', 'the picture is written as .png'),
        (tmp_path / 'none' / 'grid.png', 'there is no folder'),
    ):
        status, out, err = run(capsys, *command[:2], f'--grid={wrong}')
        assert (status, out) == (2, '') and message in err
    assert grid.read_bytes() == written


def test_a_grid_that_cannot_be_written_loses_no_predictions(
    workdir, folder, tmp_path, capsys, monkeypatch
):
    command = (f'--workdir={workdir}', folder / '0.png', f'--grid={tmp_path / "grid.png"}')

    def full_disk(*arguments):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(predict, '_write_grid', full_disk)
        status, out, err = run(capsys, *command)
    assert status == 2 and str(folder / '0.png') in out
    assert err == 'error: [Errno 28] No space left on device\n'
    monkeypatch.setattr(predict.os, 'access', lambda path, mode: path != tmp_path)
    monkeypatch.setattr(predict, '_predict_readable', lambda *arguments: pytest.fail('computed'))
    status, out, err = run(capsys, *command)
    assert (status, out) == (2, '') and 'cannot be written to; name another folder' in err


def test_names_that_are_not_utf_8_are_printed_as_they_are(workdir, folder, tmp_path, monkeypatch):
    name = os.fsencode(tmp_path) + b'/caf\xe9.png'
    shutil.copy(folder / '0.png', name)
    for form in ([], ['--csv']):
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(buffer, 'utf-8'))
        predict.main([f'--workdir={workdir}', os.fsdecode(name), *form])
        sys.stdout.flush()
        assert name in buffer.getvalue()


def test_names_of_the_dataset(network, folder, tmp_path, capsys):
    config, _, weights = network
    write_workdir(tmp_path, config, weights)
    names = tmp_path / 'class_names.txt'
    names.write_text('\n'.join(['n01440764', *'bcdefg']) + '\n')
    command = (f'--workdir={tmp_path}', folder / '0.png', '--top=7', '--csv')
    _, text, _ = run(capsys, *command)
    found = {row['class']: row['name'] for row in csv.DictReader(io.StringIO(text))}
    assert found['0'] == 'n01440764 tench, Tinca tinca' and found['1'] == 'b'
    names.write_text('one\ntwo\n')
    status, out, err = run(capsys, *command)
    assert (status, out) == (2, '') and '2 names' in err


def test_names_of_imagenet(tmp_path):
    """The order is that of tfds' imagenet2012, whose labels the networks are trained on."""
    labels = pathlib.Path(tfds.__file__).parent / 'datasets' / 'imagenet2012' / 'labels.txt'
    assert list(imagenet_names()) == labels.read_text().split()
    assert all(imagenet_names().values())
    names = class_names(tmp_path, 1000)
    assert names[388].startswith('n02510455 giant panda')
    assert names[207] == 'n02099601 golden retriever'
    assert class_names(tmp_path, 3) == ['class 0', 'class 1', 'class 2']


def test_kinds_of_images(workdir, tmp_path):
    """Grey, 16-bit, CMYK, palette and transparent images are those of their RGB values."""
    levels = np.random.default_rng(1).integers(0, 256, (2 * SIZE, 2 * SIZE), np.uint8)
    grey = Image.fromarray(levels)
    rgb = grey.convert('RGB')
    deep = Image.fromarray(levels.astype(np.uint16) * 256 + 9)
    writers = {
        'rgb.png': rgb,
        'grey.png': grey,
        'deep.png': deep,
        'alpha.png': rgb.convert('RGBA'),
        'palette.png': grey.convert('P'),
        'grey.webp': rgb,
        'grey.gif': grey,
        'grey.bmp': rgb,
    }
    for name, image in writers.items():
        image.save(tmp_path / name, **({'lossless': True} if name.endswith('webp') else {}))
    first, *others = predict.predict(workdir, [tmp_path / name for name in writers], top=CLASSES)
    for prediction in others:
        assert [c[0] for c in prediction.classes] == [c[0] for c in first.classes]
        np.testing.assert_allclose(
            [c[2] for c in prediction.classes],
            [c[2] for c in first.classes],
            rtol=1e-5,
            err_msg=prediction.file,
        )

    smooth = Image.fromarray(np.full((64, 64, 3), (200, 30, 90), np.uint8))
    smooth.save(tmp_path / 'rgb.jpg', quality=100)
    smooth.convert('CMYK').save(tmp_path / 'cmyk.jpg', quality=100)
    rgb, cmyk = predict.predict(workdir, [tmp_path / 'rgb.jpg', tmp_path / 'cmyk.jpg'], top=1)
    assert rgb.classes[0][0] == cmyk.classes[0][0]
    assert abs(rgb.classes[0][2] - cmyk.classes[0][2]) < 0.01


def test_bad_images(workdir, folder, tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, 'JPEG')
    (tmp_path / 'cut.jpg').write_bytes(buffer.getvalue()[:1000])
    (tmp_path / 'text.jpg').write_text('no image')
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'folder').mkdir()
    reasons = {
        'cut.jpg': 'cannot be decoded',
        'text.jpg': 'cannot be decoded',
        'empty.png': 'cannot be decoded',
        'none.png': 'does not exist',
        'folder': 'holds no image',
    }
    for name, reason in reasons.items():
        status, out, err = run(capsys, f'--workdir={workdir}', folder / '0.png', tmp_path / name)
        assert (status, out) == (2, ''), name
        assert str(tmp_path / name) in err and reason in err and err.count('\n') == 1


@pytest.fixture
def bad_files(tmp_path):
    for number in range(5):
        (tmp_path / f'bad{number}.jpg').write_text('no image')
    return [tmp_path / f'bad{number}.jpg' for number in range(5)]


def test_all_bad_files_are_counted_before_the_network_is_loaded(
    workdir, folder, bad_files, tmp_path, capsys
):
    shutil.copy(workdir / 'config.json', tmp_path)  # and no checkpoint
    files = [folder / '0.png', *bad_files, folder / '1.png']
    status, out, err = run(capsys, f'--workdir={tmp_path}', *files)
    assert (status, out) == (2, '') and err.count('\n') == 1
    assert err.startswith('error: 5 of 7 files cannot be read: ') and 'add --skip_bad' in err
    assert all(str(file) in err for file in bad_files[:3]) and ' and 2 more' in err
    with pytest.raises(UserError, match='5 of 7 files cannot be read'):
        predict.predict(tmp_path, files)


def test_bad_files_can_be_skipped(workdir, folder, bad_files, capsys):
    files = [folder / '0.png', *bad_files, folder / '1.png']
    status, out, err = run(capsys, f'--workdir={workdir}', '--skip_bad', '--json', *files)
    assert status == 1
    _, alone, _ = run(capsys, f'--workdir={workdir}', '--json', files[0], files[-1])
    assert out == alone and len(json.loads(out)) == 2
    lines = err.splitlines()
    assert len(lines) == 5 and all(
        line.startswith(f'skipped: {file} cannot be decoded')
        for line, file in zip(lines, bad_files, strict=True)
    )
    status, out, err = run(capsys, f'--workdir={workdir}', '--skip_bad', *bad_files)
    assert (status, out) == (2, '')
    assert err.splitlines()[-1] == 'error: no file can be read'
    status, _, err = run(capsys, f'--workdir={workdir}', '--skip_bad', files[0])
    assert (status, err) == (0, '')


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix, tolerance', [('png', 0), ('webp', 0), ('jpg', 8)])
def test_exif_orientation_is_honoured(orientation, suffix, tolerance, tmp_path):
    """Against Pillow's exif_transpose; sides of odd and even length, no symmetry."""
    y, x = np.mgrid[:47, :70]
    stored = Image.fromarray(np.stack([3 * x, 5 * y, 255 - x - y], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {'webp': {'lossless': True}, 'jpg': {'quality': 100, 'subsampling': 0}, 'png': {}}
    stored.save(tmp_path / f'a.{suffix}', exif=exif, **options[suffix])
    upright = ImageOps.exif_transpose(Image.open(tmp_path / f'a.{suffix}'))
    assert upright.size == ((70, 47) if orientation < 5 else (47, 70))
    upright.save(tmp_path / 'upright.png', exif=b'')
    transform = evaluation_transform(default_config().data, SIZE)
    want = image_file.read_image(tmp_path / 'upright.png', transform).astype(int)
    got = image_file.read_image(tmp_path / f'a.{suffix}', transform)
    assert np.abs(got - want).max() <= tolerance


@pytest.mark.parametrize(
    'exif', [b'', b'Exif', b'Exif\0\0MM\0*\0\0\0\x08\0\x09\x01', b'Exif\0\0II*\0\xff\xff\xff\xff']
)
def test_damaged_exif_turns_nothing(exif, tmp_path):
    image = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    image.save(tmp_path / 'a.jpg', exif=exif)
    image.save(tmp_path / 'b.jpg')
    transform = evaluation_transform(default_config().data, SIZE)
    np.testing.assert_array_equal(
        image_file.read_image(tmp_path / 'a.jpg', transform),
        image_file.read_image(tmp_path / 'b.jpg', transform),
    )


def test_of_an_animation_the_first_frame_counts(workdir, tmp_path):
    frames = [Image.fromarray(np.full((64, 64, 3), level, np.uint8)) for level in (40, 90, 200)]
    frames[0].save(tmp_path / 'still.png')
    names = ['still.png']
    for suffix in ('gif', 'webp', 'png'):
        names.append(f'moving.{suffix}')
        options = {'lossless': True} if suffix == 'webp' else {}
        frames[0].save(tmp_path / names[-1], save_all=True, append_images=frames[1:], **options)
    still, *moving = predict.predict(workdir, [tmp_path / name for name in names], top=CLASSES)
    for prediction in moving:
        assert prediction.classes == still.classes, prediction.file


def test_a_checkpoint_is_named_as_in_evaluation(network, workdir, folder, capsys):
    command = (f'--workdir={workdir}', folder / '0.png', '--csv')
    _, expected, _ = run(capsys, *command)
    assert run(capsys, *command, '--checkpoint=0') == (0, expected, '')
    status, _, err = run(capsys, *command, '--checkpoint=best')
    assert status == 2 and 'was evaluated; there are steps [0]' in err


def test_directories_without_weights(folder, tmp_path):
    with pytest.raises(UserError, match='no run is in'):
        predict.predict(tmp_path, [folder / '0.png'])
    assert list(tmp_path.iterdir()) == []
