"""The page and the plots of a finished run in its work directory, and the table behind them.

report.html            the evaluation as a page: classes, confused pairs, mistakes, calibration
predictions.npz        per example: index, label, and of both weights prediction, confidence, top1,
                       top5 and loss
curves.png             loss and top-1 over the steps
confusion_matrix.png   for at most MOST_CLASSES classes
mistakes.png           misclassified images with label and prediction, in the order of their loss,
                       highest first; for at most MOST_EXAMPLES images
The page and the plots show the EMA weights at the end of the run.
"""

import os
from collections.abc import Callable, Iterable

import matplotlib.figure
import ml_collections
import numpy as np
from etils import epath

from resnet_rs.config.dataset import dataset_name
from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.run.evaluation_page import evaluation_page
from resnet_rs.run.run_log import PAGE_FILE, PREDICTIONS_FILE, read_metrics
from resnet_rs.training.evaluation import Evaluation, write_predictions
from resnet_rs.utils.figures import encode_figure

MOST_CLASSES = 40
MOST_MISTAKES = 40
MOST_MISTAKES_OF_PAGE = 100
MOST_EXAMPLES = 60_000  # the split is read once more to find the images
NAME_INCHES = 0.11  # of a letter beside an axis, at most
CELL, IMAGE = 1.5, 1.4  # inches: widths of an image with and without its margins


def write(
    workdir: str | os.PathLike,
    config: ml_collections.ConfigDict,
    evaluation: Evaluation,
    class_names: tuple[str, ...],
    eval_batches: Callable[[ml_collections.ConfigDict], Iterable],
) -> list[epath.Path]:
    """Writes the files above for `evaluation`, the last of the run; returns their paths.

    `eval_batches(config)` returns the batches of the evaluated split.
    """
    directory = epath.Path(workdir)
    figures = {'curves.png': draw_curves(read_metrics(workdir))}
    table = evaluation.table
    if len(class_names) <= MOST_CLASSES:
        matrix = confusion_matrix(table['label'], table['ema_prediction'], len(class_names))
        figures['confusion_matrix.png'] = draw_confusion_matrix(matrix, class_names)
    wrong = np.flatnonzero(~table['ema_top1'])
    order = wrong[np.argsort(-table['ema_loss'][wrong], kind='stable')]
    on_page, worst = order[:MOST_MISTAKES_OF_PAGE], order[:MOST_MISTAKES]
    pictures = {}
    if len(wrong) and evaluation.examples <= MOST_EXAMPLES:
        indices = table['index'][on_page]
        images = map(picture_of, images_at(eval_batches(config), indices))
        pictures = dict(zip(indices, images, strict=True))
        figures['mistakes.png'] = draw_mistakes(
            [pictures[index] for index in table['index'][worst]],
            [class_names[label] for label in table['label'][worst]],
            [class_names[label] for label in table['ema_prediction'][worst]],
            f'{len(wrong):,} of {evaluation.examples:,} misclassified by the EMA weights'
            + (f', the {len(worst)} with the highest loss' if len(worst) < len(wrong) else ''),
        )
    for name, figure in figures.items():
        (directory / name).write_bytes(encode_figure(figure, 'png'))
    title = f'{config.model.name} on {config.data.eval_split} of {dataset_name(config)}'
    page = evaluation_page(title, evaluation, class_names, on_page, pictures)
    (directory / PAGE_FILE).write_text(page)
    write_predictions(directory / PREDICTIONS_FILE, evaluation)  # last: it says that all is there
    return [directory / name for name in (PAGE_FILE, PREDICTIONS_FILE, *figures)]


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts [classes, classes]: row is the label, column the prediction."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def images_at(batches: Iterable[dict], indices: np.ndarray) -> np.ndarray:
    """Returns the images uint8 [n, S, S, 3] of the examples with these numbers in the split."""
    found = {}
    wanted = set(indices.tolist())
    for batch in batches:
        for position, index in enumerate(batch['index'].tolist()):
            if index in wanted:
                found[index] = np.array(batch['image'][position])
    return np.stack([found[index] for index in indices.tolist()])


def draw_curves(lines: list[dict]) -> matplotlib.figure.Figure:
    """Draws training and evaluation loss, and top-1, over the steps of metrics.jsonl."""
    figure = matplotlib.figure.Figure(figsize=(10, 4), layout='constrained')
    loss_axes, top1_axes = figure.subplots(1, 2)
    train = [line for line in lines if line['kind'] == 'train']
    evals = [line for line in lines if line['kind'] == 'eval']
    for axes, name, scale in ((loss_axes, 'loss', 1), (top1_axes, 'top1', 100)):
        curves = (
            (train, name, 'training batches', 'tab:gray', ''),
            (evals, f'raw_{name}', 'evaluation, raw weights', 'tab:orange', '.'),
            (evals, f'ema_{name}', 'evaluation, EMA weights', 'tab:blue', '.'),
        )
        for source, key, label, color, marker in curves:
            steps = [line['step'] for line in source]
            values = [scale * line[key] for line in source]
            if len(steps) == 1:  # no line without a second point
                marker = '.'
            axes.plot(steps, values, label=label, color=color, marker=marker)
        axes.set_xlabel('step')
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    loss_axes.set_ylabel('cross entropy (nats)')
    loss_axes.set_title('Loss (training: smoothed labels)')
    top1_axes.set_ylabel('top-1 (%)')
    top1_axes.set_title('Accuracy')
    figure.legend(*top1_axes.get_legend_handles_labels(), loc='outside lower center', ncols=3)
    return figure


def draw_confusion_matrix(matrix: np.ndarray, class_names) -> matplotlib.figure.Figure:
    """Draws the counts, coloured by their share of the row's class."""
    class_names = [class_title(name) for name in class_names]
    side = max(4.5, 0.55 * len(class_names))
    figure = matplotlib.figure.Figure(figsize=(side + 0.8, side), layout='constrained')
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap='Blues', vmin=0, vmax=1)
    for row, column in np.argwhere(matrix):
        color = 'white' if share[row, column] > 0.5 else 'black'
        axes.text(column, row, matrix[row, column], ha='center', va='center', color=color)
    is_wide = max(map(len, class_names)) * NAME_INCHES > side / len(class_names)
    rotation = 90 if is_wide else 0
    axes.set_xticks(range(len(class_names)), class_names, rotation=rotation)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_xlabel('prediction')
    axes.set_ylabel('label')
    right = int(np.trace(matrix))
    axes.set_title(
        f'EMA weights: {right:,} of {matrix.sum():,} right ({100 * right / matrix.sum():.2f} %)'
    )
    return figure


def draw_mistakes(images, labels, predictions, title: str) -> matplotlib.figure.Figure:
    """Draws a page of images, each under its label and '→ prediction'."""
    pairs = zip(map(class_title, labels), map(class_title, predictions), strict=True)
    return draw_images(images, [f'{label}\n→ {guess}' for label, guess in pairs], title)


def picture_of(image: np.ndarray) -> np.ndarray:
    """Returns an image [H, W, 3] as it is; of clips [..., frames, H, W, 3] a picture of the first.

    It shows four evenly spaced frames, two above two.
    """
    if image.ndim == 3:
        return image
    clip = image.reshape(-1, *image.shape[-4:])[0]
    first, second, third, last = clip[np.linspace(0, len(clip) - 1, 4).round().astype(int)]
    rows = [np.concatenate(row, axis=1) for row in ((first, second), (third, last))]
    return np.concatenate(rows)


def draw_images(images, titles, title: str, columns: int = 8) -> matplotlib.figure.Figure:
    """Draws a page of square images, or of frames of clips, each under its own title."""
    images = [picture_of(image) for image in images]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = 1 + max(text.count('\n') for text in titles)
    cell = IMAGE + 0.25 + 0.15 * lines  # inches, as all below
    width, height = max(CELL * columns, 5), cell * rows + 0.5
    figure = matplotlib.figure.Figure(figsize=(width, height))
    # One pair of axes for all images: a pair for each takes ten times as long to lay out.
    axes = figure.add_axes((0, 0, 1, 1))
    left = (width - CELL * columns + CELL - IMAGE) / 2
    for number, (image, text) in enumerate(zip(images, titles, strict=True)):
        x, bottom = left + CELL * (number % columns), 0.45 + cell * (number // columns + 1)
        axes.imshow(image, extent=(x, x + IMAGE, bottom, bottom - IMAGE))
        size = 9 if lines == 1 else 8
        axes.text(x + IMAGE / 2, bottom - IMAGE - 0.06, text, fontsize=size, ha='center')
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    figure.suptitle(title, y=1 - 0.3 / height, va='center')
    return figure


def class_title(name: str) -> str:
    """Shortens a class's name to the width of a small picture."""
    name = imagenet_names().get(name, name).partition(',')[0]
    return name if len(name) <= 18 else f'{name[:17]}…'
