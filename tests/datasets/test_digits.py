"""The digits are those of scikit-learn, and the figures of two plain classifiers hold."""

from helpers import prepared

from resnet_rs.datasets.digits import EVAL_EXAMPLES, TRAIN_EXAMPLES


def test_digits_are_those_of_scikit_learn_in_order():
    import numpy as np
    import tensorflow_datasets as tfds
    from sklearn.datasets import load_digits

    builder = tfds.builder_from_directory(
        f'{prepared.data_dir("digits", "array_record")}/digits/1.0.0'
    )
    source = builder.as_data_source()
    examples = [*source['train'], *source['validation']]
    digits = load_digits()
    assert len(examples) == len(digits.target) == 1797
    assert (len(source['train']), len(source['validation'])) == (TRAIN_EXAMPLES, EVAL_EXAMPLES)
    np.testing.assert_array_equal([example['label'] for example in examples], digits.target)
    images = np.stack([example['image'][..., 0] for example in examples])
    # 16 levels of ink onto 0..255: 15.9375 grey values each.
    assert np.abs(images - digits.images * 15.9375).max() <= 0.5
    assert images.min() == 0 and images.max() == 255


def test_comparison_figures_of_digits_hold():
    """The figures that the documentation of the dataset gives for other methods."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    images, labels = load_digits(return_X_y=True)
    train, test = slice(TRAIN_EXAMPLES), slice(TRAIN_EXAMPLES, None)
    for model, right in ((SVC(gamma=0.001, C=10), 347), (KNeighborsClassifier(3), 348)):
        predicted = model.fit(images[train], labels[train]).predict(images[test])
        assert (predicted == labels[test]).sum() == right
