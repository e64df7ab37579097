"""Fashion-MNIST from its four files on a disk, for machines without a network.

The result is the dataset that tfds prepares from the network: the same builder writes the same
examples in the same order.
"""

import gzip
import hashlib
import zlib

import numpy as np
from tensorflow_datasets.image_classification import mnist

from resnet_rs.utils.errors import UserError

# SHA-256 of the contents. Those of the .gz files differ between copies: Debian's package
# dataset-fashion-mnist compressed the files anew.
DIGESTS = {
    'train-images-idx3-ubyte': 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
    'train-labels-idx1-ubyte': 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
    't10k-images-idx3-ubyte': '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
    't10k-labels-idx1-ubyte': '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
}
DEBIAN_DIRECTORY = '/usr/share/datasets/fashion-mnist'
# The files begin with 4 bytes of type and 4 bytes for the length of every axis.
_IMAGE_HEADER, _LABEL_HEADER = 16, 8


class FromFiles(mnist.FashionMNIST, skip_registration=True):
    """The builder of tfds, with images and labels from a directory instead of the network.

    Constructor arguments: `directory`, a pathlib path, then those of a tfds builder. Raises
    UserError if a file is missing or has other contents than the published one.
    """

    name = 'fashion_mnist'

    def __init__(self, directory, **options):
        self._contents = {file: _read(directory, file) for file in DIGESTS}
        super().__init__(**options)

    def _split_generators(self, dl_manager):
        del dl_manager
        return {'train': self._examples_of('train'), 'test': self._examples_of('t10k')}

    def _examples_of(self, part: str):
        images = self._contents[f'{part}-images-idx3-ubyte'][_IMAGE_HEADER:]
        labels = self._contents[f'{part}-labels-idx1-ubyte'][_LABEL_HEADER:]
        images = np.frombuffer(images, np.uint8).reshape(-1, *mnist.MNIST_IMAGE_SHAPE)
        labels = np.frombuffer(labels, np.uint8).astype(np.int64)
        # The order of the examples in the records follows from these keys, which are tfds's.
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {'image': image, 'label': label}


def _read(directory, file: str) -> bytes:
    """Returns the contents of `file` or `file`.gz after a check of their digest."""
    paths = [directory / f'{file}.gz', directory / file]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(
            f'{directory} has neither {file}.gz nor {file}; the four files of Fashion-MNIST are '
            f"in Debian's package dataset-fashion-mnist, which puts them into {DEBIAN_DIRECTORY}"
        )
    try:
        contents = path.read_bytes()
        if path.suffix == '.gz':
            contents = gzip.decompress(contents)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'{path} cannot be read ({error}); copy it again') from error
    digest = hashlib.sha256(contents).hexdigest()
    if digest != DIGESTS[file]:
        raise UserError(
            f'{path} is not the published file: the SHA-256 of its contents is {digest}, not '
            f'{DIGESTS[file]}; copy it again'
        )
    return contents
