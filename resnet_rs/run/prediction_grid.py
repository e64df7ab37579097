"""A picture of images with their likeliest classes."""

import re
from collections.abc import Sequence

import matplotlib.figure
import numpy as np

LONGEST_NAME = 26
COLUMNS = 3
WIDE = 2.5  # width over height from which a picture, such as a strip of frames, has a row alone
TEXT = {'va': 'center', 'fontsize': 8}


def draw_predictions(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    classes: Sequence[Sequence[tuple[str, float]]],
) -> matplotlib.figure.Figure:
    """Draws images, uint8 [height, width, 3], each above bars of its likeliest classes.

    `classes` are (name, probability) of each image, best first.
    """
    is_wide = max(image.shape[1] / image.shape[0] for image in images) > WIDE
    columns = 1 if is_wide else min(COLUMNS, len(images))
    width, height = (10.2, 1.6) if is_wide else (3.4, 2.4)
    rows = -(-len(images) // columns)
    most = max(map(len, classes))
    bars = 0.4 + 0.22 * most
    figure = matplotlib.figure.Figure(
        figsize=(width * columns, (height + 0.2 + bars) * rows), layout='constrained'
    )
    cells = figure.subfigures(rows, columns, squeeze=False).ravel()
    for cell, image, title, best in zip(cells, images, titles, classes, strict=False):
        above, below = cell.subplots(2, 1, height_ratios=(height, bars))
        above.imshow(image)
        above.set_axis_off()
        above.set_title(_shortened(title), fontsize=9)
        _draw_bars(below, best, most)
    return figure


def _draw_bars(axes, best, most: int) -> None:
    places = np.arange(len(best))
    axes.barh(places, [100 * probability for _, probability in best], color='#9ecae1', height=0.75)
    for place, (name, probability) in zip(places, best, strict=True):
        axes.text(1, place, f'{_shortened(_words(name))}  {100 * probability:.1f} %', **TEXT)
    axes.set_xlim(0, 100)
    axes.set_ylim(most - 0.5, -0.5)
    axes.set_yticks([])
    axes.tick_params(axis='x', labelsize=7)
    axes.spines[['top', 'right']].set_visible(False)


def _words(name: str) -> str:
    """Returns a class's name without the number of a synset of ImageNet."""
    return re.sub(r'^n\d{8} ', '', name)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f'{text[: LONGEST_NAME - 1]}…'
