"""Pictures of pseudo-labels: how certain they are, and on which images most and least."""

import os

import matplotlib.figure
import numpy as np
from etils import epath

from resnet_rs.config import eval_image_size
from resnet_rs.datasets import records
from resnet_rs.datasets.images import evaluation_transform
from resnet_rs.datasets.pipeline import threads_of
from resnet_rs.datasets.pseudo_labels import PseudoLabels
from resnet_rs.run.labelling import Images
from resnet_rs.run.report import class_title, draw_images
from resnet_rs.utils.figures import encode_figure

BINS = 50


def write(
    labels: PseudoLabels, images: Images, path: str | os.PathLike, count: int
) -> list[epath.Path]:
    """Writes FILE_histogram.png and FILE_images.png beside FILE.npz; returns their paths.

    The page has the `count` most and least certain of the images that could be decoded.
    """
    file = epath.Path(path)
    figures = {'histogram': draw_histogram(labels)}
    decoded = np.flatnonzero(labels.mask)
    ranked = decoded[np.argsort(-labels.confidence[decoded], kind='stable')]
    if len(ranked):
        count = min(count, len(ranked))
        shown = np.concatenate([ranked[:count], ranked[-count:]])
        names = labels.description.class_names
        titles = [
            f'{class_title(names[number]) if names else f"class {number}"} {chance:.1%}'
            for number, chance in zip(
                labels.predicted[shown], labels.confidence[shown], strict=True
            )
        ]
        title = f'the {count} most certain and the {count} least certain of {len(ranked):,}'
        figures['images'] = draw_images(_read(images, shown), titles, title)
    paths = {name: file.with_name(f'{file.stem}_{name}.png') for name in figures}
    for name, figure in figures.items():
        paths[name].write_bytes(encode_figure(figure, 'png'))
    return list(paths.values())


def draw_histogram(labels: PseudoLabels) -> matplotlib.figure.Figure:
    """Draws the confidences of all images, and how many are predicted to be of each class."""
    figure = matplotlib.figure.Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    left.hist(labels.confidence[labels.mask], BINS, (0, 1), color='tab:blue')
    left.set_xlabel('probability of the likeliest class')
    left.set_ylabel('images')
    left.set_yscale('log')
    left.set_title('Confidence')
    counts = np.bincount(labels.predicted[labels.mask], minlength=labels.description.num_classes)
    right.plot(np.sort(counts)[::-1], drawstyle='steps-mid', color='tab:orange')
    right.set_xlabel('class, by its number of images')
    right.set_ylabel('images')
    right.set_ylim(bottom=0)
    right.set_title('Images of each predicted class')
    return figure


def _read(images: Images, examples: np.ndarray) -> np.ndarray:
    """Returns the evaluation crops of examples, uint8 [number, size, size, 3]."""
    config, info, split = images.config, images.info, images.split
    transform = evaluation_transform(config.data, eval_image_size(config))
    ranges = [(int(number), int(number) + 1) for number in examples]
    found = records.records_of_ranges(
        split, info.file_format, ranges, threads=threads_of(config.data)
    )
    crops = found.map(lambda record: transform(records.load(split, record['data'])))
    return np.stack(list(crops.as_numpy_iterator()))
