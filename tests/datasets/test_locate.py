"""Finding datasets by their metadata, quickly, with messages that say what to do."""

import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from helpers import prepared

from resnet_rs.config import default_config
from resnet_rs.datasets import locate
from resnet_rs.utils.errors import UserError


def data(**settings):
    made = default_config().data
    made.update({'name': 'digits', **settings})
    return made


def digits(**settings):
    return data(data_dir=prepared.data_dir('digits', 'array_record'), **settings)


def test_finds_splits_classes_and_format():
    info = locate.find_dataset(digits())
    assert info.file_format == 'array_record'
    assert info.num_classes == 10
    assert {name: split.num_examples for name, split in info.splits.items()} == {
        'train': 1437,
        'validation': 360,
    }
    imagenet = data(name='imagenet2012', data_dir=prepared.data_dir('imagenet2012', 'tfrecord'))
    info = locate.find_dataset(imagenet)
    assert info.file_format == 'tfrecord'
    assert info.class_names[:2] == ('n01440764', 'n01443537') and info.num_classes == 1000
    lengths = info.split('train').shard_lengths
    assert len(lengths) == 8 and sum(lengths) == 210 and len(set(lengths)) > 1
    assert info.split('validation').num_examples == 29


@pytest.mark.parametrize('name', ['digits:1.0.0', 'digits:1.*.*'])
def test_version_may_be_named(name):
    assert locate.find_dataset(digits(name=name)).directory.endswith('digits/1.0.0')


def test_newest_version_is_taken_by_number(tmp_path):
    source = locate.find_dataset(digits()).directory
    for version in ('1.9.0', '1.10.0'):
        shutil.copytree(source, tmp_path / 'digits' / version)
    assert locate.find_dataset(data(data_dir=str(tmp_path))).directory.endswith('1.10.0')


def test_configurations_are_listed_and_found(tmp_path):
    source = locate.find_dataset(digits()).directory
    shutil.copytree(source, tmp_path / 'digits' / 'small' / '1.0.0')
    with pytest.raises(UserError, match='digits/small'):
        locate.find_dataset(data(data_dir=str(tmp_path)))
    found = locate.find_dataset(data(name='digits/small', data_dir=str(tmp_path)))
    assert found.split('train').num_examples == 1437


@pytest.mark.parametrize(
    'name, want',
    [
        ('train[:99%]', (0, 1423)),  # 1422.63
        ('train[99%:]', (1423, 14)),
        ('train[-1%:]', (1423, 14)),
        ('train[100:200]', (100, 100)),
        ('train[1400:9999]', (1400, 37)),
        ('train[:]', (0, 1437)),
    ],
)
def test_slices(name, want):
    split = locate.find_dataset(digits()).split(name)
    start, count = want
    assert (split.shards[0].skip, split.num_examples) == (start, count)
    assert f'record {start + 3} of ' in split.describe(3)


def test_slice_of_several_files_describes_every_record():
    imagenet = data(name='imagenet2012', data_dir=prepared.data_dir('imagenet2012', 'tfrecord'))
    info = locate.find_dataset(imagenet)
    whole, part = info.split('train'), info.split('train[20:190]')
    assert part.num_examples == 170
    for index in range(170):
        place = whole.describe(20 + index).partition(' (')[0]
        assert part.describe(index).partition(' (')[0] == place


def test_parts_joined_by_plus_leave_the_middle_out():
    """The four parts and their complements, as a study with four folds names them."""
    info = locate.find_dataset(digits())
    whole = [info.split('train').describe(index).partition(' (')[0] for index in range(1437)]
    split = info.split('train[:25%]+train[50%:]')
    assert split.name == 'train[:25%]+train[50%:]'
    assert split.num_examples == 359 + 719
    places = [split.describe(index).partition(' (')[0] for index in range(split.num_examples)]
    assert places == whole[:359] + whole[718:]


@pytest.mark.parametrize(
    'name, message',
    [
        ('train[5:]+train[:10]', 'its parts overlap'),
        ('train[:10]+train[9:12]', 'its parts overlap'),
        ('train[:10]+', "no split ''"),
        ('test', "no split 'test': it has train, validation"),
        ('train[', 'no split'),
        ('train[a:b]', 'no split'),
        ('train[200:100]', 'holds no example'),
        ('train[9999:]', 'holds no example'),
    ],
)
def test_bad_splits(name, message):
    with pytest.raises(UserError, match=message.replace('[', r'\[')):
        locate.find_dataset(digits(eval_split=name))


def set_of_files(count, length=1251):
    """A set whose training files hold `length`, `length` + 1, `length`, ... records."""
    shards = tuple(
        locate.Shard(f'file{number}', 0, length + number % 2, length + number % 2)
        for number in range(count)
    )
    total = sum(shard.take for shard in shards)
    split = locate.SplitInfo('train', total, shards)
    return locate.DatasetInfo('set', '/set', 'tfrecord', ('a', 'b'), {'train': split})


def records_of(split):
    return [
        (shard.filename, record)
        for shard in split.shards
        for record in range(shard.skip, shard.skip + shard.take)
    ]


@pytest.mark.parametrize('files, held_out_files', [(1024, 20), (512, 10)])
def test_minival_is_20_of_1024_files(files, held_out_files):
    info = set_of_files(files)
    held_out, rest = info.split('minival'), info.split('train_without_minival')
    assert len(held_out.shards) == held_out_files and len(rest.shards) == files - held_out_files
    assert all(shard.take == shard.examples_in_shard for shard in held_out.shards + rest.shards)
    assert held_out.num_examples == held_out_files // 2 * (1251 + 1252)
    assert records_of(held_out) + records_of(rest) == records_of(info.split('train'))


@pytest.mark.parametrize(
    'files, length, held_out_records',
    [
        (8, 1000, 156),  # 8004 * 20 / 1024 = 156.3
        (1, 1437, 28),
        (300, 10, 62),  # 3150 * 20 / 1024 = 61.5
    ],
)
def test_minival_of_other_numbers_of_files_is_the_same_part_of_the_records(
    files, length, held_out_records
):
    info = set_of_files(files, length)
    held_out, rest = info.split('minival'), info.split('train_without_minival')
    assert held_out.num_examples == held_out_records
    assert records_of(held_out) + records_of(rest) == records_of(info.split('train'))
    half = info.split('minival[:50%]')
    assert records_of(half) == records_of(held_out)[: held_out_records // 2]


def test_minival_of_an_image_folder_is_of_all_classes(tmp_path):
    for name in ('a', 'b'):
        folder = tmp_path / 'train' / name
        folder.mkdir(parents=True)
        for number in range(512):
            (folder / f'{number:03d}.jpg').write_bytes(b'')
    info = locate.find_dataset(
        data(
            source='image_folder',
            data_dir=str(tmp_path),
            train_split='train_without_minival',
            eval_split='minival',
        )
    )
    held_out, rest = info.split('minival'), info.split('train_without_minival')
    assert held_out.labels.count(0) == held_out.labels.count(1) == 10
    assert len(rest.images) == len(rest.labels) == 1004
    assert sorted(held_out.images + rest.images) == list(info.split('train').images)
    labels = dict(zip(info.split('train').images, info.split('train').labels, strict=True))
    assert [labels[image] for image in rest.images] == list(rest.labels)


def test_a_split_called_minival_is_itself():
    info = set_of_files(8)
    own = locate.SplitInfo('minival', 5, (locate.Shard('own', 0, 5, 5),))
    info.splits['minival'] = own
    assert info.split('minival') is own
    with pytest.raises(UserError, match='no split'):
        locate.DatasetInfo('set', '/set', 'tfrecord', ('a',), {'test': own}).split('minival')


def test_missing_dataset_names_the_command(tmp_path):
    command = f'python -m resnet_rs.datasets.prepare digits --data_dir={tmp_path}'
    with pytest.raises(UserError) as error:
        locate.find_dataset(data(data_dir=str(tmp_path)))
    assert 'is empty' in str(error.value) and command in str(error.value)
    (tmp_path / 'other').mkdir()
    with pytest.raises(UserError) as error:
        locate.find_dataset(data(data_dir=str(tmp_path)))
    assert 'not prepared' in str(error.value) and command in str(error.value)
    with pytest.raises(UserError, match='does not exist'):
        locate.find_dataset(data(data_dir=str(tmp_path / 'nowhere')))


def test_data_dir_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    assert locate.data_dir(data()) == tmp_path
    monkeypatch.delenv('TFDS_DATA_DIR')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert locate.data_dir(data()) == tmp_path / 'tensorflow_datasets'


@pytest.mark.parametrize('source', ['tfds', 'image_folder'])
def test_a_directory_that_cannot_be_read_is_named(source, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(pathlib.Path, 'iterdir', refuse)  # chmod does not stop root
    found = data(data_dir=str(tmp_path), source=source)
    with pytest.raises(UserError, match=f'{tmp_path} cannot be read .Permission denied.; let this'):
        locate.find_dataset(found)


def test_buckets_keep_their_scheme():
    assert str(locate.data_dir(data(data_dir='gs://bucket/data')) / 'x') == 'gs://bucket/data/x'


def test_missing_file_and_broken_metadata(tmp_path):
    source = prepared.data_dir('imagenet2012', 'tfrecord')
    shutil.copytree(source, tmp_path / 'data')
    settings = data(name='imagenet2012', data_dir=str(tmp_path / 'data'))
    version = tmp_path / 'data' / 'imagenet2012' / '5.1.0'
    lost = 'imagenet2012-train.tfrecord-00003-of-00008'
    (version / lost).unlink()
    with pytest.raises(UserError, match=lost):
        locate.find_dataset(settings)
    (version / 'dataset_info.json').write_text('{')
    with pytest.raises(UserError, match='dataset_info.json is damaged'):
        locate.find_dataset(settings)


def test_is_quick_and_imports_no_framework(tmp_path):
    program = (
        'import sys\n'
        'from resnet_rs.config import default_config\n'
        'from resnet_rs.datasets import locate\n'
        'from resnet_rs.utils.errors import UserError\n'
        'data = default_config().data\n'
        f'data.update(name="digits", data_dir={str(tmp_path)!r})\n'
        'try:\n'
        '    locate.find_dataset(data)\n'
        'except UserError:\n'
        '    print({"tensorflow", "jax", "tensorflow_datasets"} & set(sys.modules))\n'
    )
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == 'set()'
    assert time.monotonic() - start < 2
