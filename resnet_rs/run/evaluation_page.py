"""report.html: the evaluation of a run as one self-contained page, which needs no network."""

import base64
import collections
import html
import io
from collections.abc import Mapping, Sequence

import matplotlib.figure
import numpy as np
import PIL.Image

from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.training import WEIGHTS
from resnet_rs.training.calibration import BINS, Calibration, calibration
from resnet_rs.training.evaluation import Evaluation
from resnet_rs.utils.errors import count_of
from resnet_rs.utils.html_page import Cell, document, figure_image, table

MOST_PAIRS = 200
SIDE = 144  # pixels of a picture, at most
LOSSLESS_SIDE = 64  # JPEG would blur smaller pictures
STYLE = """
.filter { position: sticky; top: 0; background: #fff; padding: .5rem 0; z-index: 1; }
.filter input { font: inherit; width: min(100%, 24rem); padding: .3rem .5rem; }
.tall .scroll { max-height: 30rem; overflow: auto; }
.names th:nth-child(2), .names td:nth-child(2) { text-align: left; white-space: normal; }
.tall th { position: sticky; top: 0; background: #fff; z-index: 1; }
td button { font: inherit; border: 0; background: none; padding: 0; cursor: pointer;
  color: #0645ad; text-align: left; white-space: normal; }
.mistakes { display: grid; gap: .8rem; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.mistakes figure { margin: 0; font-size: .85rem; overflow-wrap: anywhere; }
.mistakes img { width: 100%; max-width: 9rem; display: block; image-rendering: auto; }
.mistakes img.small { image-rendering: pixelated; }
.calibration { max-width: 34rem; }
"""
SCRIPT = """
const box = document.querySelector('.filter input');
const entries = [...document.querySelectorAll('[data-names]')];
const shown = document.querySelector('.filter output');
function filter(exact) {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let count = 0;
  for (const entry of entries) {
    const names = entry.dataset.names, text = names.toLowerCase();
    const element = entry.closest('tr') ?? entry;
    element.hidden = exact === undefined
      ? !words.every(word => text.includes(word)) : !names.split('\\n').includes(exact);
    count += !element.hidden;
  }
  shown.textContent = words.length ? `${count} of ${entries.length} entries` : '';
}
box.addEventListener('input', () => filter());
for (const button of document.querySelectorAll('td button[data-names]')) {
  button.addEventListener('click', () => {
    box.value = button.textContent; filter(button.textContent);
  });
}
"""


def evaluation_page(
    title: str,
    evaluation: Evaluation,
    class_names: Sequence[str],
    mistakes: np.ndarray,
    pictures: Mapping[int, np.ndarray],
) -> str:
    """Returns the page of an evaluation, by the EMA weights.

    Args:
      title: what was evaluated.
      evaluation: the results of every image.
      class_names: the names of the classes in the order of the labels.
      mistakes: rows of evaluation.table whose images are shown, the worst first.
      pictures: {index of an image in the split: uint8 [height, width, 3]} of these rows.
    """
    table_of = evaluation.table
    names = readable_names(class_names)
    wrong = np.flatnonzero(~table_of['ema_top1'])
    found = {
        weights: calibration(table_of[f'{weights}_confidence'], table_of[f'{weights}_top1'])
        for weights in reversed(WEIGHTS)
    }
    pairs = _pair_cells(table_of, names, wrong)
    body = [
        f'<h1>{html.escape(title)}</h1>',
        f'<p>{count_of(evaluation.examples, "image")}, {count_of(len(names), "class")}. The EMA '
        'weights are the average over the run; all below the first table is of them. Press a '
        'heading to sort.</p>',
        table([_summary_cells(evaluation, weights, found[weights]) for weights in found]),
        '<h2>Calibration</h2>',
        '<p>In each bar, images on which the network is about equally confident. Where it is as '
        'often right as it says, the bar ends at the line; the expected calibration error (ECE) is '
        'the mean distance.</p>',
        '<div class="calibration">',
        figure_image('reliability diagram', draw_reliability(found['ema'])),
        '</div>',
        '<p class="filter"><input type="search" placeholder="Filter by class" '
        'aria-label="Filter by class"> <output></output></p>',
        '<h2>Classes</h2>',
        f'<div class="tall names">{table(_class_cells(table_of, names))}</div>',
        '<h2>Most confused pairs</h2>',
    ]
    if pairs:
        body += [f'<div class="tall names">{table(pairs[:MOST_PAIRS])}</div>']
        if len(pairs) > MOST_PAIRS:
            body += [f'<p>The first {MOST_PAIRS} of {len(pairs):,}.</p>']
    body += [
        '<h2>Worst mistakes</h2>',
        f'<p>{len(mistakes):,} of {count_of(len(wrong), "mistake")}, the highest loss first.</p>',
        '<div class="mistakes">',
        *(_mistake(table_of, row, names, pictures) for row in mistakes),
        '</div>',
    ]
    return document(title, body, STYLE, SCRIPT)


def readable_names(class_names: Sequence[str]) -> list[str]:
    """Returns the names of classes, of ImageNet's synsets their first words.

    Where two synsets begin alike their numbers tell them apart: 'crane (n02012849)'.
    """
    known = imagenet_names()
    first = [known[name].partition(',')[0] if name in known else name for name in class_names]
    often = collections.Counter(first)
    return [
        f'{words} ({name})' if often[words] > 1 and words != name else words
        for words, name in zip(first, class_names, strict=True)
    ]


def draw_reliability(found: Calibration) -> matplotlib.figure.Figure:
    """Draws the accuracy of each bin of confidence, and how many images are in it."""
    figure = matplotlib.figure.Figure(figsize=(5, 4.6), layout='constrained')
    accuracy, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = found.counts > 0
    edges = np.arange(BINS) / BINS
    accuracy.bar(
        edges[filled],
        100 * found.accuracy[filled],
        width=1 / BINS,
        align='edge',
        color='tab:blue',
        edgecolor='white',
    )
    accuracy.plot([0, 1], [0, 100], color='black', linewidth=1, linestyle='--')
    accuracy.set_ylabel('right (%)')
    accuracy.set_ylim(0, 100)
    accuracy.set_title(f'Expected calibration error {100 * found.expected_error:.2f} %')
    share.bar(
        edges,
        100 * found.counts / found.counts.sum(),
        width=1 / BINS,
        align='edge',
        color='tab:gray',
        edgecolor='white',
    )
    share.set_ylabel('images (%)')
    share.set_xlabel('confidence, the probability of the prediction')
    share.set_xlim(0, 1)
    for axes in (accuracy, share):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    return figure


def _summary_cells(evaluation: Evaluation, weights: str, found: Calibration) -> dict[str, Cell]:
    metrics = evaluation.metrics
    right = int(evaluation.table[f'{weights}_top1'].sum())
    cells = {
        'weights': Cell({'ema': 'EMA', 'raw': 'raw'}[weights]),
        'top-1 (%)': _percent(metrics[f'{weights}_top1']),
        'right': Cell(f'{right:,}', right),
    }
    if (top5 := metrics.get(f'{weights}_top5')) is not None:
        cells['top-5 (%)'] = _percent(top5)
    return cells | {
        'loss': Cell(f'{metrics[f"{weights}_loss"]:.4f}'),
        'ECE (%)': _percent(found.expected_error),
    }


def _class_cells(results: dict, names: Sequence[str]) -> list[dict[str, Cell]]:
    labels, predictions = results['label'], results['ema_prediction']
    rows = []
    order = np.argsort(labels, kind='stable')
    predicted = np.bincount(predictions, minlength=len(names))
    first, last = (
        np.searchsorted(labels[order], range(len(names)), side=side) for side in ('left', 'right')
    )
    for number, name in enumerate(names):
        of_class = order[first[number] : last[number]]
        right = results['ema_top1'][of_class]
        others = np.bincount(predictions[of_class][~right], minlength=len(names))
        worst = int(others.argmax())
        rows.append(
            {
                'class': _name_cell(name),
                'most often taken for': Cell(
                    f'{names[worst]}, {others[worst]} ×' if others[worst] else '',
                    int(others[worst]),
                ),
                'images': Cell(len(of_class)),
                'right (%)': _percent(right.mean()) if len(of_class) else Cell('', -1),
                'confidence (%)': _percent(results['ema_confidence'][of_class].mean())
                if len(of_class)
                else Cell('', -1),
                'predicted': Cell(int(predicted[number])),
            }
        )
    return rows


def _pair_cells(results: dict, names: Sequence[str], wrong: np.ndarray) -> list[dict[str, Cell]]:
    """Returns the confused pairs, the most frequent first."""
    labelled = wrong[results['label'][wrong] >= 0]
    both = np.stack([results['label'][labelled], results['ema_prediction'][labelled]], axis=1)
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    totals = np.bincount(results['label'][results['label'] >= 0], minlength=len(names))
    return [
        {
            'label': _name_cell(names[label], f'{names[label]}\n{names[guess]}'),
            'prediction': Cell(names[guess]),
            'images': Cell(int(count)),
            'of the label (%)': _percent(count / totals[label]),
        }
        for (label, guess), count in sorted(
            zip(pairs.tolist(), counts, strict=True), key=lambda pair: -pair[1]
        )
    ]


def _mistake(results: dict, row: int, names: Sequence[str], pictures) -> str:
    index = int(results['index'][row])
    label, guess = (int(results[name][row]) for name in ('label', 'ema_prediction'))
    label = names[label] if label >= 0 else 'no label'
    confidence = f'{100 * results["ema_confidence"][row]:.1f} %'
    image = _picture(pictures[index], f'image {index}') if index in pictures else ''
    return (
        f'<figure data-names="{html.escape(f"{label}{chr(10)}{names[guess]}")}">{image}<figcaption>'
        f'{html.escape(label)} → <b>{html.escape(names[guess])}</b>, {confidence}, image {index:,}'
        '</figcaption></figure>'
    )


def _picture(pixels: np.ndarray, name: str) -> str:
    picture = PIL.Image.fromarray(pixels)
    is_small = max(picture.size) <= LOSSLESS_SIDE
    picture.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    picture.save(encoded, 'PNG' if is_small else 'JPEG', **({} if is_small else {'quality': 85}))
    data = base64.b64encode(encoded.getvalue()).decode()
    kind, of_class = ('png', ' class="small"') if is_small else ('jpeg', '')
    return f'<img{of_class} alt="{name}" src="data:image/{kind};base64,{data}">'


def _name_cell(name: str, names: str = '') -> Cell:
    """Returns a cell with a button that filters by its name; a filter searches `names`."""
    found = html.escape(names or name)
    return Cell(f'<button data-names="{found}">{html.escape(name)}</button>', name, is_html=True)


def _percent(fraction: float) -> Cell:
    return Cell(f'{100 * fraction:.2f}', float(fraction))
