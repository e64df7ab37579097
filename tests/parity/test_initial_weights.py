"""Weights of a new network against the initialisers of the authors' TF1 code."""

import flax.traverse_util
import numpy as np

from resnet_rs.models import create_model, init_variables


def test_kernels_are_truncated_normals_of_the_fan_in():
    """TF's variance scaling: deviation sqrt(1 / fan in), cut at two deviations before the cut."""
    model = create_model('resnet_rs_14', width_multiplier=0.5, dtype='float32')
    params = flax.traverse_util.flatten_dict(init_variables(model, 64)['params'], sep='/')
    for path, leaf in params.items():
        leaf = np.asarray(leaf)
        name = path.split('/')[-1]
        if path == 'head/kernel':
            np.testing.assert_allclose(leaf.std(), 0.01, rtol=0.01)
            assert np.abs(leaf).max() > 0.035  # not cut
        elif name == 'kernel':
            deviation = np.sqrt(1 / np.prod(leaf.shape[:-1]))
            # Five deviations of the estimate, whose kurtosis is below a normal's.
            np.testing.assert_allclose(
                leaf.std(), deviation, rtol=5 / np.sqrt(2 * leaf.size), err_msg=path
            )
            # A normal cut at two deviations keeps 0.87962566 of its deviation.
            limit = 2 * deviation / 0.87962566
            assert 0.9 * limit < np.abs(leaf).max() <= limit * 1.0001, path
        elif name == 'scale':
            last = 'norm3' in path and 'stem' not in path
            assert (leaf == (0 if last else 1)).all(), path
        else:
            assert name == 'bias' and not leaf.any(), path
