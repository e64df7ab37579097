"""The handwritten digits that ship inside scikit-learn, as a tfds dataset that needs no download.

Importing this module registers the builder, so that `tfds.builder('digits')` finds it.
"""

import numpy as np
import tensorflow_datasets as tfds

TRAIN_EXAMPLES = 1437
EVAL_EXAMPLES = 360


class ScannedDigits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A dataset that is made of the scans: its two parts, in the order of the file."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def described(self, **features) -> tfds.core.DatasetInfo:
        """Returns the description of a dataset with these two features, the input and 'label'."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=tuple(features),
            homepage='https://archive.ics.uci.edu/dataset/80',
            # Examples keep the order of the file, so that a misclassified digit can be found there.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            'train': self._generate_examples(0, TRAIN_EXAMPLES),
            'validation': self._generate_examples(TRAIN_EXAMPLES, TRAIN_EXAMPLES + EVAL_EXAMPLES),
        }


class Digits(ScannedDigits):
    """1,797 scanned digits of 8x8 pixels and 17 grey levels, stored as grey PNG images.

    The split keeps the order of the file, which does not mix its 13 writers: 'train' is the first
    1,437 images, 'validation' the last 360. On this split scikit-learn's SVC(gamma=0.001, C=10)
    classifies 347 of 360 correctly (96.4 %) and KNeighborsClassifier(3) 348 (96.7 %).

    Source: sklearn.datasets.load_digits, the test part of "Optical Recognition of Handwritten
    Digits" of the UCI Machine Learning Repository (E. Alpaydin, C. Kaynak).
    """

    def _info(self):
        return self.described(
            image=tfds.features.Image(shape=(8, 8, 1), encoding_format='png'),
            label=tfds.features.ClassLabel(num_classes=10),
        )

    def _generate_examples(self, start, stop):
        scans, digits = scanned()
        for index in range(start, stop):
            yield index, {'image': scans[index, :, :, None], 'label': int(digits[index])}


def scanned() -> tuple[np.ndarray, np.ndarray]:
    """Returns all scans, uint8 [1797, 8, 8], and their digits, int [1797]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target
