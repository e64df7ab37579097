"""The command that splits one folder of images into train, validation and test."""

import errno
import hashlib
import os
import pathlib
import random

import pytest
from helpers.commands import run_command

from resnet_rs.datasets import split_folder
from resnet_rs.datasets.image_folder import find_image_folder
from resnet_rs.utils.errors import UserError


def write_source(directory, sizes, order=sorted):
    """Files whose content is their name, created in the order that `order` gives."""
    names = [
        f'{name}/{"sub/" if number % 3 == 0 else ""}{number}.jpg'
        for name, size in sizes.items()
        for number in range(size)
    ]
    for name in order(names):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return directory


def shuffled(names):
    return random.Random(1).sample(names, len(names))


def files_of(directory):
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob('*')
        if path.is_file()
    }


def run(capsys, *arguments):
    return run_command(split_folder.main, capsys, *arguments)


def test_every_image_goes_into_one_part_of_its_class(tmp_path, capsys):
    source = write_source(tmp_path / 'source', {'ant': 40, 'bee': 10, 'cow': 3})
    before = files_of(source)
    status, out, err = run(
        capsys, source, f'--output={tmp_path / "out"}', '--validation=0.2', '--test=0.1', '--seed=3'
    )
    assert (status, err) == (0, '')
    assert out == (
        f'train: 36 images, validation: 11 images, test: 6 images; '
        f'53 linked into {tmp_path / "out"}\n'
    )
    assert files_of(source) == before
    parts = files_of(tmp_path / 'out')
    assert sorted(parts.values()) == sorted(before)
    counts = {}
    for file, content in parts.items():
        part, _, name = file.partition('/')
        assert name == content
        counts[part, name.partition('/')[0]] = counts.get((part, name.partition('/')[0]), 0) + 1
    assert counts == {
        ('train', 'ant'): 28,
        ('validation', 'ant'): 8,
        ('test', 'ant'): 4,
        ('train', 'bee'): 7,
        ('validation', 'bee'): 2,
        ('test', 'bee'): 1,
        ('train', 'cow'): 1,
        ('validation', 'cow'): 1,
        ('test', 'cow'): 1,
    }
    assert os.stat(source / 'cow/1.jpg').st_nlink == 2
    info = find_image_folder(tmp_path / 'out', ('train', 'validation'))
    assert info.class_names == ('ant', 'bee', 'cow')
    assert sorted(os.listdir(tmp_path)) == ['out', 'source']


def test_an_empty_folder_stays_and_gets_the_parts(tmp_path, monkeypatch, capsys):
    source = write_source(tmp_path / 'source', {'ant': 4})
    output = tmp_path / 'out'
    output.mkdir()
    monkeypatch.chdir(output)
    status, out, err = run(capsys, source, '--output=.')
    assert (status, err) == (0, '') and out.endswith('4 linked into .\n')
    assert sorted(os.listdir('.')) == ['train', 'validation']  # of the folder of the shell
    assert sorted(files_of(output).values()) == sorted(files_of(source))


def test_parts_depend_on_names_and_seed_alone(tmp_path):
    results = []
    for number, (order, seed) in enumerate(((sorted, 0), (shuffled, 0), (sorted, 1))):
        source = write_source(tmp_path / f'source{number}', {'ant': 30, 'bee': 20}, order)
        output = tmp_path / f'out{number}'
        split_folder.split_folder(source, output, validation=0.3, seed=seed)
        results.append(files_of(output))
    assert results[0] == results[1] != results[2]
    bees = [file.partition('/')[2] for file in results[0] if '/bee/' in file]
    bees.sort(key=lambda name: hashlib.sha256(f'0/{name}'.encode()).hexdigest())
    assert {f'validation/{name}' for name in bees[:6]} == {
        file for file in results[0] if file.startswith('validation/bee')
    }


@pytest.mark.parametrize(
    'images, fractions, counts',
    [
        (2, {'validation': 0.9}, {'validation': 1}),
        (2, {'validation': 0.01}, {'validation': 1}),
        (100, {'validation': 0.1}, {'validation': 10}),
        (25, {'validation': 0.1}, {'validation': 3}),
        (3, {'validation': 0.6, 'test': 0.3}, {'validation': 1, 'test': 1}),
        (4, {'validation': 0.5, 'test': 0.4}, {'validation': 1, 'test': 2}),
    ],
)
def test_each_part_has_an_image(images, fractions, counts):
    assert split_folder._counts(images, fractions) == counts


def test_files_are_copied_where_they_cannot_be_linked(tmp_path, monkeypatch, capsys):
    source = write_source(tmp_path / 'source', {'ant': 4})

    def refuse(source, target):
        if not str(target).endswith('1.jpg'):
            raise OSError(errno.EXDEV, 'Invalid cross-device link')
        pathlib.Path(target).write_text('linked')

    monkeypatch.setattr(os, 'link', refuse)
    _, out, _ = run(capsys, source, f'--output={tmp_path / "out"}')
    assert out.startswith('train: 3 images, validation: 1 image; 1 linked and 3 copied into ')
    contents = sorted(files_of(tmp_path / 'out').values())
    assert contents == ['ant/2.jpg', 'ant/sub/0.jpg', 'ant/sub/3.jpg', 'linked']
    assert os.stat(source / 'ant/2.jpg').st_nlink == 1


def test_links_are_followed(tmp_path):
    source = write_source(tmp_path / 'source', {'ant': 2})
    (tmp_path / 'far.jpg').write_text('far')
    (source / 'ant' / 'link.jpg').symlink_to('../../far.jpg')
    split_folder.split_folder(source, tmp_path / 'out', validation=0.3)
    [link] = (tmp_path / 'out').rglob('link.jpg')
    assert link.read_text() == 'far' and not link.is_symlink()
    (source / 'ant' / 'lost.jpg').symlink_to('gone.jpg')
    with pytest.raises(UserError, match='source has broken links: .*/ant/lost.jpg'):
        split_folder.split_folder(source, tmp_path / 'other', validation=0.3)
    assert not (tmp_path / 'other').exists()


def test_mistakes_are_one_line_and_write_nothing(tmp_path, capsys):
    source = write_source(tmp_path / 'source', {'ant': 5, 'bee': 1})
    write_source(tmp_path / 'full' / 'train', {'ant': 1})
    before = files_of(tmp_path)
    output = f'--output={tmp_path / "out"}'
    for arguments, message in (
        ([tmp_path / 'none', output], 'none is not a folder'),
        ([source, output], 'an image for each of train, validation, but 1 of '),
        ([source, output, '--test=0.2'], 'for each of train, validation, test, but 1 of '),
        ([source, f'--output={tmp_path / "full"}'], 'full is not empty; name a new folder'),
        ([source, f'--output={source / "ant/1.jpg"}'], 'which stays as it is'),
        ([source, f'--output={source / "split"}'], 'which stays as it is'),
        ([tmp_path / 'full', output], 'full holds train: it is split already'),
        ([source, output, '--validation=1'], "'1' is not a number between 0 and 1"),
        ([source, output, '--validation=ten'], "'ten' is not a number between 0 and 1"),
        ([source, output, '--validation=0.6', '--test=0.4'], 'together must be less than 1'),
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (2, '') and message in err and err.count('\n') == 1, err
    assert files_of(tmp_path) == before and not (tmp_path / 'out').exists()


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    source = write_source(tmp_path / 'source', {'ant': 5})
    monkeypatch.setattr(os, 'link', lambda source, target: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        split_folder.split_folder(source, tmp_path / 'out', validation=0.3)
    assert os.listdir(tmp_path) == ['source']


def test_an_error_of_the_file_system_is_one_line(tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise PermissionError(13, 'Permission denied', str(tmp_path))

    monkeypatch.setattr(split_folder, 'read_classes', refuse)
    with pytest.raises(SystemExit) as stop:
        split_folder.main([str(tmp_path), f'--output={tmp_path}-parts'])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error == f"error: [Errno 13] Permission denied: '{tmp_path}'\n"
