"""Folders of images: which files are read, in which order, and how the others are named."""

import logging
import os
import shutil

import pytest

from resnet_rs.config import default_config
from resnet_rs.datasets import image_folder, locate
from resnet_rs.utils.errors import UserError


def find(directory, **settings):
    image_folder.find_image_folder.cache_clear()
    data = default_config().data
    data.update({'source': 'image_folder', 'data_dir': str(directory), **settings})
    return locate.find_dataset(data)


def write(directory, *files):
    for file in files:
        path = directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')


def one_split(directory, *files):
    write(directory, *(f'train/{file}' for file in files))
    return find(directory, eval_split='train').split('train')


def places(split, directory):
    return [os.path.relpath(image, directory / 'train') for image in split.images]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_flat_folder_is_in_the_order_of_classes_and_names(tmp_path):
    for split in ('train', 'val'):
        for name in ('b', 'a'):
            write(tmp_path / split / name, '2.PNG', '1.jpeg', '3.txt')
    info = find(tmp_path)
    assert info.class_names == ('a', 'b')
    split = info.split('validation')  # 'val' serves where 'validation' is not there
    assert split.num_examples == 4 and split.labels == (0, 0, 1, 1)
    assert [path[len(str(tmp_path)) :] for path in split.images] == [
        '/val/a/1.jpeg',
        '/val/a/2.PNG',
        '/val/b/1.jpeg',
        '/val/b/2.PNG',
    ]
    assert '/val/b/1.jpeg' in split.describe(2)
    for name in ('train[:50%]', 'train+validation'):
        with pytest.raises(UserError, match='no slices or sums'):
            info.split(name)


def test_every_kind_that_predict_reads_is_an_image(tmp_path):
    names = ['a.jpg', 'b.JPEG', 'c.png', 'd.webp', 'e.GIF', 'f.bmp']
    split = one_split(tmp_path, *(f'cat/{name}' for name in names))
    assert places(split, tmp_path) == [f'cat/{name}' for name in names]


def test_subfolders_are_read_after_the_files_and_the_log_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO, 'absl')
    split = one_split(
        tmp_path,
        'cat/z.jpg',
        'cat/2020/b.jpg',
        'cat/2020/a.jpg',
        'cat/2020/may/c.jpg',
        'cat/2019.jpg/d.jpg',
        'dog/e.jpg',
    )
    assert places(split, tmp_path) == [
        'cat/z.jpg',
        'cat/2019.jpg/d.jpg',
        'cat/2020/a.jpg',
        'cat/2020/b.jpg',
        'cat/2020/may/c.jpg',
        'dog/e.jpg',
    ]
    assert split.labels == (0, 0, 0, 0, 0, 1)
    assert (
        '4 of 6 images are in subfolders of their class (cat/2019.jpg, cat/2020, cat/2020/may)'
    ) in caplog.text
    assert not warnings(caplog)


def test_named_folders_have_the_images_that_training_reads(tmp_path):
    write(
        tmp_path / 'train' / 'cat',
        'z.jpg',
        'sub/a.png',
        '._a.jpg',
        '.hid.png',
        '@eaDir/t.jpg',
        '__MACOSX/z.jpg',
        'notes.txt',
    )
    write(tmp_path / 'elsewhere', 'b.gif')
    folder = tmp_path / 'train' / 'cat'
    (folder / 'linked').symlink_to(tmp_path / 'elsewhere')
    (folder / 'cycle').symlink_to(tmp_path / 'train')
    found = image_folder.find_images([str(folder)])
    assert [str(file) for file in found] == list(
        find(tmp_path, eval_split='train').splits['train'].images
    )
    assert [file.name for file in found] == ['z.jpg', 'b.gif', 'a.png']
    for file in found:
        file.unlink()
    with pytest.raises(UserError, match='holds no image .*; it holds 6 files: 2 hidden, 2 in hid'):
        image_folder.find_images([str(folder)])


def test_flat_folder_without_other_files_logs_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO, 'absl')
    one_split(tmp_path, 'cat/a.jpg', 'dog/b.jpg')
    assert not caplog.records


def test_ignored_files_are_counted_by_kind_and_named_in_one_line(tmp_path, caplog):
    split = one_split(
        tmp_path,
        'cat/a.jpg',
        'cat/.DS_Store',
        'cat/._a.jpg',
        'cat/b.HEIC',
        'cat/c.heic',
        'cat/README',
        'cat/__MACOSX/a.jpg',
        'cat/.git/x/y.jpg',
        'lost.jpg',
        'labels.csv',
        '.cache/a.jpg',
        '__MACOSX/cat/a.jpg',
    )
    assert places(split, tmp_path) == ['cat/a.jpg']
    [message] = warnings(caplog)
    assert message.startswith(f'{tmp_path}/train: ignored 11 files: ')
    for part in (
        '2 hidden',
        '2 .heic',
        '1 without a suffix',
        '4 in hidden folders',
        '1 .csv',
        '1 in no class folder',
        ' and 8 more); images end in .jpg, .jpeg, .png, .webp',
    ):
        assert part in message, message
    assert '(labels.csv, lost.jpg, .cache/a.jpg' in message


def test_a_class_folder_whose_name_is_not_utf8_is_named(tmp_path):
    """No class_names.txt could hold it, which showed only after the compilation."""
    write(tmp_path / 'train', 'cat/a.jpg')
    folder = os.fsencode(tmp_path / 'train') + b'/caf\xe9'
    os.mkdir(folder)
    shutil.copy(tmp_path / 'train' / 'cat' / 'a.jpg', os.fsdecode(folder))
    with pytest.raises(UserError, match=r"train has a class folder b'caf.xe9', whose name is not"):
        find(tmp_path, eval_split='train')
    shutil.rmtree(folder)
    write(tmp_path / 'train', 'caf\u00e9/a.jpg')
    assert find(tmp_path, eval_split='train').class_names == ('caf\u00e9', 'cat')


def test_links_cannot_lead_in_circles(tmp_path, caplog):
    write(tmp_path / 'train', 'cat/a.jpg', 'cat/sub/b.jpg', 'dog/c.jpg', 'more/c2.jpg')
    (tmp_path / 'elsewhere').mkdir()
    shutil.move(tmp_path / 'train' / 'more', tmp_path / 'elsewhere' / 'more')
    cat = tmp_path / 'train' / 'cat'
    (cat / 'itself').symlink_to(cat)
    (cat / 'sub' / 'up').symlink_to('..')
    (cat / 'all').symlink_to(tmp_path)
    (cat / 'everything').symlink_to('/')
    (cat / 'loop').symlink_to('loop')
    (cat / 'linked').symlink_to(tmp_path / 'elsewhere' / 'more')
    (cat / 'again').symlink_to(tmp_path / 'elsewhere' / 'more')
    split = find(tmp_path, eval_split='train').split('train')
    assert places(split, tmp_path) == [
        'cat/a.jpg',
        'cat/again/c2.jpg',
        'cat/sub/b.jpg',
        'dog/c.jpg',
    ]
    [message] = warnings(caplog)
    assert '5 links to a folder that is read already' in message
    assert '1 without a suffix' in message and 'cat/all' in message


def test_a_link_to_a_missing_file_stays_an_example(tmp_path):
    """Training and --mode=check refuse it by name; leaving it out would hide the loss."""
    write(tmp_path / 'train' / 'cat', 'a.jpg')
    (tmp_path / 'train' / 'cat' / 'b.jpg').symlink_to('gone.jpg')
    split = find(tmp_path, eval_split='train').split('train')
    assert places(split, tmp_path) == ['cat/a.jpg', 'cat/b.jpg']


def test_bad_image_folders(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        find(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='none of the folders'):
        find(tmp_path)
    (tmp_path / 'train').mkdir()
    with pytest.raises(UserError, match='no class folders'):
        find(tmp_path)
    (tmp_path / 'train' / 'cat').mkdir()
    with pytest.raises(UserError, match='cat has no image ending in .jpg.*bmp$'):
        find(tmp_path)
    write(tmp_path / 'train' / 'cat', '1.heic', '2.heic')
    with pytest.raises(UserError, match='cat has no image.*; it holds 2 files: 2 .heic$'):
        find(tmp_path)
    write(tmp_path / 'train' / 'cat', '1.jpg')
    with pytest.raises(UserError, match="no split 'validation'"):
        find(tmp_path)


@pytest.mark.parametrize(
    'train, validation, message',
    [
        ('cat dog', 'cat dog zebra', "class 'zebra' is in validation/ but not in train/; give"),
        ('cat dog', 'cat', "class 'dog' is in train/ but not in validation/; give"),
        (
            'a b c d e',
            'e',
            "4 classes ('a', 'b', 'c' and 1 more) are in train/ but not in validation/",
        ),
        (
            'cat ant',
            'cat zebra',
            "class 'ant' is in train/ but not in validation/, class 'zebra' is in "
            'validation/ but not in train/; give each split the same',
        ),
    ],
)
def test_different_classes_name_the_split(tmp_path, train, validation, message):
    for split, classes in (('train', train), ('validation', validation)):
        write(tmp_path / split, *(f'{name}/1.jpg' for name in classes.split()))
    with pytest.raises(UserError) as error:
        find(tmp_path)
    assert message in str(error.value)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path / 'train', 'cat/1.jpg', 'cat/locked/2.jpg')
    scandir = os.scandir

    def refuse(directory):
        if str(directory).endswith('locked'):
            raise PermissionError(13, 'Permission denied', str(directory))
        return scandir(directory)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(UserError, match=r'cat/locked cannot be read \(Permission denied\)'):
        find(tmp_path, eval_split='train')
