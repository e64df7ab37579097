"""The pictures of a finished run: what they show and whether it can be read."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from resnet_rs.config import default_config
from resnet_rs.run import report
from resnet_rs.run.report import draw_confusion_matrix, draw_curves, draw_mistakes
from resnet_rs.training.evaluation import Evaluation
from resnet_rs.utils.figures import encode_figure


def test_the_page_of_a_run_on_clips_shows_four_frames_of_a_mistake(tmp_path):
    """The first view of two; frames 0, 2, 5 and 7 of eight, two above two."""
    clips = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 6, 6, 3), np.uint8)
    right = np.array([True, False, True])
    table = {'index': np.arange(3), 'label': np.zeros(3, np.int32)}
    metrics = {}
    for weights in ('raw', 'ema'):
        table |= {
            f'{weights}_prediction': np.array([0, 1, 0]),
            f'{weights}_confidence': np.full(3, 0.75, np.float32),
            f'{weights}_top1': right,
            f'{weights}_top5': right,
            f'{weights}_loss': np.where(right, 0.1, 2.0),
        }
        metrics |= {f'{weights}_top1': 2 / 3, f'{weights}_top5': 1.0, f'{weights}_loss': 0.5}
    (tmp_path / 'metrics.jsonl').write_text('')
    page, *_ = report.write(
        tmp_path,
        default_config(),
        Evaluation(metrics, 3, table),
        ('left', 'right'),
        lambda config: [{'index': np.arange(3), 'image': clips}],
    )
    [encoded] = re.findall(r'data:image/png;base64,([^"]+)', page.read_text())
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    first = clips[1, 0]
    expected = np.concatenate(
        [np.concatenate(first[[0, 2]], axis=1), np.concatenate(first[[5, 7]], axis=1)]
    )
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize(
    'source, name',
    [
        ('tfds', 'imagenet2012'),
        ('image_folder', 'flowers'),
        ('video_folder', 'flowers'),
        ('sequence_examples', 'flowers'),
    ],
)
def test_the_title_of_the_page_names_the_data(source, name, monkeypatch, tmp_path):
    config = default_config()
    config.data.update(source=source, data_dir='/data/flowers', name='imagenet2012')
    titles = []
    monkeypatch.setattr(
        report, 'evaluation_page', lambda title, *arguments: titles.append(title) or ''
    )
    right = np.array([True])
    table = {'index': np.arange(1), 'label': np.zeros(1, np.int32)}
    table |= {'ema_prediction': np.zeros(1, np.int32), 'ema_top1': right, 'ema_loss': right * 0.1}
    (tmp_path / 'metrics.jsonl').write_text('')
    monkeypatch.setattr(report, 'write_predictions', lambda *arguments: None)
    report.write(tmp_path, config, Evaluation({}, 1, table), ('left', 'right'), lambda config: [])
    assert titles == [f'{config.model.name} on {config.data.eval_split} of {name}']


def test_curves_of_a_run_of_one_logged_step():
    """Single points have a marker, and the legend stands below both axes."""
    scores = {f'{weights}_{name}': 0.5 for weights in ('raw', 'ema') for name in ('loss', 'top1')}
    lines = [
        {'step': 22, 'kind': 'train', 'loss': 1.5, 'top1': 0.25},
        {'step': 22, 'kind': 'eval', **scores},
    ]
    figure = draw_curves(lines)
    encode_figure(figure, 'png')  # lays it out
    [legend] = figure.legends
    for axes, of_training, of_evaluation in zip(figure.axes, (1.5, 25), (0.5, 50), strict=True):
        assert [line.get_xydata().tolist() for line in axes.lines] == [
            [[22, value]] for value in (of_training, of_evaluation, of_evaluation)
        ]
        assert [line.get_marker() for line in axes.lines] == ['.'] * 3
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_the_confusion_matrix_counts_and_names_its_weights():
    matrix = np.array([[13, 1, 1], [0, 15, 0], [3, 0, 12]])
    axes = draw_confusion_matrix(matrix, ['ant', 'bee', 'cat']).axes[0]
    assert axes.get_title() == 'EMA weights: 40 of 45 right (88.89 %)'
    places = {text.get_position(): text.get_text() for text in axes.texts}
    assert places == {  # (prediction, label)
        (0, 0): '13',
        (1, 0): '1',
        (2, 0): '1',
        (1, 1): '15',
        (0, 2): '3',
        (2, 2): '12',
    }


def overlapping(texts):
    """Returns whether any two of the texts of a drawn figure overlap."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


@pytest.mark.parametrize(
    'name, classes',
    [('ant', 12), ('greater one-horned rhinoceros', 2), ('greater one-horned rhinoceros', 8)],
)
def test_names_of_classes_do_not_overlap(name, classes):
    names = [f'{name} {number}' for number in range(classes)]
    images = np.zeros((classes, 4, 4, 3), np.uint8)
    matrix = draw_confusion_matrix(np.eye(classes, dtype=np.int64), names)
    encode_figure(matrix, 'png')
    assert not overlapping(matrix.axes[0].get_xticklabels())
    mistakes = draw_mistakes(images, names, names, 'Mistakes')
    encode_figure(mistakes, 'png')
    assert len(mistakes.axes[0].texts) == classes and not overlapping(mistakes.axes[0].texts)
