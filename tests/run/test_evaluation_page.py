"""report.html: its numbers are those of the table, and it needs nothing beside itself."""

import base64
import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from resnet_rs.datasets.imagenet_classes import imagenet_names
from resnet_rs.run.evaluation_page import evaluation_page, readable_names
from resnet_rs.training.calibration import calibration
from resnet_rs.training.evaluation import Evaluation

NAMES = ('ant', '<script>alert("bee")</script>', 'cat')


@pytest.fixture(scope='module')
def evaluation():
    """60 images of three classes; the EMA weights take 4 ants for cats and 1 for a bee."""
    labels = np.repeat(np.arange(3, dtype=np.int32), 20)
    guesses = labels.copy()
    guesses[[2, 3, 5, 7]], guesses[9], guesses[50] = 2, 1, 0
    right = guesses == labels
    random = np.random.default_rng(0)
    table = {'index': np.arange(100, 160), 'label': labels}
    metrics = {}
    for weights in ('raw', 'ema'):
        table[f'{weights}_prediction'] = guesses
        table[f'{weights}_confidence'] = random.uniform(0.4, 1, 60).astype(np.float32)
        table[f'{weights}_top1'] = right
        table[f'{weights}_loss'] = np.where(right, 0.1, random.uniform(1, 3, 60))
        metrics |= {f'{weights}_top1': right.mean(), f'{weights}_loss': 0.5}
    return Evaluation(metrics, 60, table)


@pytest.fixture(scope='module')
def pictures():
    random = np.random.default_rng(1)
    small = random.integers(0, 256, (28, 28, 3), np.uint8)
    return {102: small, 103: random.integers(0, 256, (200, 160, 3), np.uint8)}


@pytest.fixture(scope='module')
def page(evaluation, pictures):
    mistakes = np.array([2, 3, 5])
    return evaluation_page('a <run>', evaluation, NAMES, mistakes, pictures)


def rows_after(page: str, heading: str) -> list[list[str]]:
    """The texts of the cells of the table that follows a heading."""
    body = page.split(f'<h2>{heading}</h2>')[1].split('</table>')[0].split('<tbody>')[1]
    return [
        [
            html.unescape(re.sub(r'<[^>]*>', '', cell))
            for cell in re.findall(r'(?s)<td.*?</td>', row)
        ]
        for row in re.findall(r'(?s)<tr>.*?</tr>', body)
    ]


def test_expected_calibration_error_is_that_of_the_paper():
    """Guo et al. 2017, equations 2 and 3, over 15 bins (0, 1/15], (1/15, 2/15], ..."""
    random = np.random.default_rng(0)
    confidence = np.concatenate([random.uniform(0, 1, 500), [0.0, 1.0, 2 / 15, 1 / 3]])
    right = random.random(len(confidence)) < confidence**2
    expected = 0.0
    for number in range(15):
        inside = [
            index
            for index, value in enumerate(confidence)
            if number / 15 < value <= (number + 1) / 15 or (number == 0 and value == 0)
        ]
        if inside:
            accuracy = sum(bool(right[index]) for index in inside) / len(inside)
            mean = sum(confidence[index] for index in inside) / len(inside)
            expected += len(inside) / len(confidence) * abs(accuracy - mean)
    found = calibration(confidence, right)
    assert found.expected_error == pytest.approx(expected, abs=1e-12)
    assert 0.05 < expected and found.counts.sum() == len(confidence)
    always = calibration(np.ones(4, np.float32), np.array([True, True, True, False]))
    assert always.expected_error == pytest.approx(0.25)


def test_classes_and_pairs(page, evaluation):
    confidence = 100 * evaluation.table['ema_confidence'].reshape(3, 20).mean(1)
    classes = rows_after(page, 'Classes')
    assert [row[:4] for row in classes] == [
        ['ant', 'cat, 4 ×', '20', '75.00'],
        [NAMES[1], '', '20', '100.00'],
        ['cat', 'ant, 1 ×', '20', '95.00'],
    ]
    np.testing.assert_allclose([float(row[4]) for row in classes], confidence, atol=0.005)
    assert [row[5] for row in classes] == ['16', '21', '23']
    assert rows_after(page, 'Most confused pairs') == [
        ['ant', 'cat', '4', '20.00'],
        ['ant', NAMES[1], '1', '5.00'],
        ['cat', 'ant', '1', '5.00'],
    ]


def test_mistakes_have_their_images(page, pictures):
    figures = re.findall(r'(?s)<figure.*?</figure>', page)
    assert len(figures) == 3 and '3 of 6 mistakes' in page
    assert all('ant → <b>cat</b>' in figure for figure in figures)
    small, large = (
        Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]*)', figure)[1])))
        for figure in figures[:2]
    )
    np.testing.assert_array_equal(np.asarray(small), pictures[102])
    assert large.format == 'JPEG' and large.size == (115, 144)
    assert '<img' not in figures[2], 'its image was not read'


def test_the_page_is_whole_and_safe(page):
    assert '<script>alert' not in page and '<h1>a &lt;run&gt;</h1>' in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 3 and all(source.startswith('data:image/') for source in sources)
    assert 'url(' not in page and 'import' not in page and 'fetch' not in page


def test_a_network_without_mistakes(evaluation):
    table = {name: values[10:20] for name, values in evaluation.table.items()}
    page = evaluation_page('a', Evaluation(evaluation.metrics, 10, table), NAMES, np.arange(0), {})
    assert '0 of 0 mistakes' in page and len(rows_after(page, 'Classes')) == 3
    assert rows_after(page, 'Classes')[1][2:5] == ['0', '', '']


def test_names_of_imagenet():
    names = readable_names(tuple(imagenet_names()))
    assert len(set(names)) == 1000
    assert names[0] == 'tench' and 'crane (n02012849)' in names and 'crane (n03126707)' in names
    assert readable_names(['7', '7b']) == ['7', '7b']
