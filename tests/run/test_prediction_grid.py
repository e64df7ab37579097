"""The picture of a grid of predictions."""

import numpy as np
import pytest

from resnet_rs.run.prediction_grid import draw_predictions


def test_a_drawn_prediction():
    """The bars have the lengths of the probabilities; of ImageNet's names the words are shown."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    best = [('n11939491 daisy', 0.7), ('bee', 0.2)]
    figure = draw_predictions([pixels], ['a.jpg'], [best])
    image, bars = figure.subfigs[0].axes
    assert image.get_title() == 'a.jpg'
    np.testing.assert_array_equal(image.images[0].get_array(), pixels)
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([70, 20])
    assert [text.get_text() for text in bars.texts] == ['daisy  70.0 %', 'bee  20.0 %']
