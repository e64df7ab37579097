"""Prepares a tfds dataset: python -m resnet_rs.datasets.prepare NAME [--data_dir=DIR] ...

This is the only command of the project that downloads data. Running it again does nothing.
"""

import re
import shutil
import types

from resnet_rs.datasets import locate
from resnet_rs.utils.errors import (
    CommandParser,
    UserError,
    count_of,
    one_line_errors,
    positive_integer,
)
from resnet_rs.utils.files import allow_open_files
from resnet_rs.utils.log_lines import log_for_people
from resnet_rs.utils.platforms import import_tensorflow

# The archives that tfds cannot fetch because they need an account.
_ARCHIVES = {
    'imagenet2012': ('ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'),
    'imagenet2012_real': ('ILSVRC2012_img_val.tar',),
}
# tfds waits 0.2 s * 2^n before retry n; its default of 10 takes minutes without a network.
_DOWNLOAD_RETRIES = 4


def prepare(
    name: str,
    data_dir: str = '',
    manual_dir: str = '',
    file_format: str = '',
    num_shards: int | None = None,
) -> locate.DatasetInfo:
    """Writes the records of the tfds set `name` unless they exist.

    Args:
      name: name of the set, optionally with '/config' and ':version'.
      data_dir: directory of the sets; empty for $TFDS_DATA_DIR or ~/tensorflow_datasets.
      manual_dir: directory of archives that need an account, empty for
        data_dir/downloads/manual; or of the four files of fashion_mnist, empty to download them.
      file_format: 'array_record' (the default: random access, so that training resumes at once)
        or 'tfrecord'.
      num_shards: files per split; by default tfds chooses from the size.

    Raises UserError if the set is unknown, archives are missing, the disk is too small or not
    writable, the download fails, or the set exists in another format.
    """
    data = types.SimpleNamespace(data_dir=data_dir, name=name)
    root = locate.data_dir(data)
    if prepared := _already_prepared(root, data, file_format, num_shards):
        return prepared

    base = name.partition(':')[0].partition('/')[0]
    manual = locate.as_path(manual_dir) if manual_dir else root / 'downloads' / 'manual'
    if base in _ARCHIVES:
        _check_archives(base, manual, root)

    import_tensorflow()
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager, downloader
    from tensorflow_datasets.core.download.util import DownloadError

    import resnet_rs.datasets.digits
    import resnet_rs.datasets.moving_digits  # noqa: F401  these register their builders

    downloader.MAX_RETRIES = _DOWNLOAD_RETRIES
    allow_open_files(1000)  # tfds sorts a large set with as many files
    options = dict(data_dir=str(root), file_format=file_format or 'array_record')
    try:
        if base == 'fashion_mnist' and manual_dir:
            from resnet_rs.datasets import fashion_mnist

            name_and_config, _, version = name.partition(':')
            config = name_and_config.partition('/')[2]
            options |= dict(config=config or None, version=version or None)
            builder = fashion_mnist.FromFiles(manual, **options)
        else:
            builder = tfds.builder(name, **options)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f'tfds has no dataset {name!r}: {str(error).splitlines()[0]}') from error
    except (AssertionError, ValueError) as error:  # of a version, a configuration or their form
        raise UserError(
            f'tfds cannot build {name!r}: {_reason(error)}; its versions and configurations are on '
            f'https://www.tensorflow.org/datasets/catalog/{base}'
        ) from error
    configuration = f'/{builder.builder_config.name}' if builder.builder_config else ''
    data.name = f'{builder.name}{configuration}:{builder.version}'
    if prepared := _already_prepared(root, data, file_format, num_shards):
        return prepared
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not manual.is_dir():
        raise UserError(
            f'{name} must be downloaded by hand into {manual}: '
            + ' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        )
    print(f'Preparing {name} in {builder.data_dir} ...')
    config = tfds.download.DownloadConfig(
        manual_dir=str(manual), num_shards=num_shards, try_download_gcs=False
    )
    try:
        builder.download_and_prepare(download_config=config)
    except requests.exceptions.ConnectionError as error:
        by_hand = (
            '; without a network, name the directory of its four .idx files, such as those of '
            "Debian's package dataset-fashion-mnist, with --manual_dir"
        )
        raise UserError(
            f'{name} cannot be downloaded from here: {error}'
            + (by_hand if base == 'fashion_mnist' else '')
        ) from error
    except download_manager.NonMatchingChecksumError as error:
        raise UserError(
            f'{name} cannot be prepared: a downloaded file is not the one that tfds knows '
            f'({error}); delete {root / "downloads"} and try again, or take a newer tfds'
        ) from error
    except (requests.exceptions.RequestException, DownloadError) as error:
        raise UserError(
            f'{name} cannot be downloaded: {error}; try again later, or take a newer tfds if the '
            'files have moved'
        ) from error
    except OSError as error:  # of the disk: too little space, or a folder that is not writable
        raise UserError(
            f'{name} cannot be prepared in {root}: {error}; choose another directory with '
            '--data_dir'
        ) from error
    return locate.find_prepared(str(root), data.name, locate.prepare_command(data), None)


def _already_prepared(
    root, data, file_format: str, num_shards: int | None
) -> locate.DatasetInfo | None:
    """Returns the set if it is there; raises UserError if it is there in another format."""
    if not locate.prepared_versions(root, data.name):
        return None
    found = locate.find_prepared(str(root), data.name, locate.prepare_command(data), None)
    if file_format not in ('', found.file_format):
        raise UserError(
            f'{data.name} is already prepared as {found.file_format} in {found.directory}: to have '
            f'it as {file_format}, delete that directory or use another --data_dir'
        )
    print(f'{data.name} was already prepared.')
    if num_shards and any(len(split.shards) != num_shards for split in found.splits.values()):
        print(
            f'--num_shards={num_shards} changes nothing: for other files delete '
            f'{found.directory} or use another --data_dir'
        )
    return found


def _reason(error: Exception) -> str:
    """Returns the reason in a message of tfds, without the arguments before and the hints after."""
    text = ' '.join(str(error).rpartition('}": ')[2].split())
    return re.split(r'\.? (?:Here are|Where:)|\.$', text)[0]


def _check_archives(base: str, manual, root) -> None:
    archives = [manual / archive for archive in _ARCHIVES[base]]
    missing = [archive.name for archive in archives if not archive.is_file()]
    if missing:
        raise UserError(
            f'{base} is built from {" and ".join(_ARCHIVES[base])}, which need an account at '
            f'https://image-net.org; {" and ".join(missing)} not found in {manual}: put them '
            'there, or name their directory with --manual_dir'
        )
    if '://' in str(root):
        return
    # The records are about as large as the archives; tfds' temporary files shrink as they grow.
    needed = sum(archive.stat().st_size for archive in archives)
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f'{base} needs {needed / 1e9:.0f} GB in {root}, which has {free / 1e9:.0f} GB free: '
            'choose a larger disk with --data_dir'
        )


def main(arguments=None):
    parser = CommandParser(prog='python -m resnet_rs.datasets.prepare', description=__doc__)
    parser.add_argument('name', help="such as 'digits' or 'imagenet2012'")
    parser.add_argument(
        '--data_dir', default='', help='default: $TFDS_DATA_DIR or ~/tensorflow_datasets'
    )
    parser.add_argument(
        '--manual_dir', default='', help='of archives, or of the files of fashion_mnist'
    )
    parser.add_argument(
        '--file_format', default='', choices=locate.FILE_FORMATS, help='default: array_record'
    )
    parser.add_argument('--num_shards', type=positive_integer, help='files per split')
    flags = parser.parse_args(arguments)
    with one_line_errors(UserError, OSError):
        info = prepare(**vars(flags))
    for split in info.splits.values():
        print(
            f'{split.name}: {count_of(split.num_examples, "example")} in '
            f'{count_of(len(split.shards), "file")}'
        )
    classes = count_of(info.num_classes, 'class')
    if any(split.computed_label for split in info.splits.values()):  # it has no label of its own
        classes = f'a label by --config.data.label={" or ".join(info.computable_labels)}'
    print(f'{classes}, {info.file_format}, in {info.directory}')


if __name__ == '__main__':
    log_for_people()
    main()
