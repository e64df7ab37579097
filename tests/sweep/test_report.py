"""The plots show the table's numbers; the documents come out of the table, byte for byte."""

import html.parser
import re

import pytest

from resnet_rs import results as command
from resnet_rs.sweep import figures, report, results
from resnet_rs.sweep.page import sparkline, write_page


def row(depth=14, width=0.25, resolution=32, seed=0, top1=0.5, dataset='digits', **more):
    return (
        dict.fromkeys(results.SCHEMA.names)
        | dict.fromkeys(results.SCORES, 0.5)
        | {
            'run': f'{depth}-{width}-{resolution}-{seed}',
            'config': f'resnet_rs_{depth}',
            'dataset': dataset,
            'depth': depth,
            'width': width,
            'resolution': resolution,
            'epochs': 6.0,
            'seed': seed,
            'step': 10,
            'parameters': 1000 * depth,
            'multiply_adds': 10**6 * depth * resolution,
            'ema_top1': top1,
            'seconds_per_step': 0.1,
            'images_per_second': 320.0 / depth,
            'images_per_second_per_device': 320.0 / depth,
            'memory_bytes': 2**30,
            'devices': '1 x cpu',
            'commit': 'abc',
            'workdir': 'nowhere',
            'settings': f'{depth}{width}{resolution}',
        }
        | more
    )


GRID = [
    row(depth, 0.25, resolution, seed, 0.5 + depth / 100 + resolution / 1000 + seed / 100)
    for depth in (14, 26)
    for resolution in (16, 32)
    for seed in (0, 1)
]


def test_a_line_for_each_value_of_the_other_axis():
    drawn = figures.draw_all(GRID)
    assert set(drawn) == {
        'pareto_multiply_adds',
        'accuracy_by_depth',
        'accuracy_by_resolution',
    }
    axes = drawn['accuracy_by_depth'].axes[0]
    lines = {entry.get_label(): entry.lines[0].get_xydata() for entry in axes.containers}
    assert set(lines) == {'16', '32'}
    assert lines['32'][0] == pytest.approx([14, 50 + 14 + 3.2 + 0.5])
    assert lines['32'][1] == pytest.approx([26, 50 + 26 + 3.2 + 0.5])


def test_axes_without_a_line_are_not_drawn():
    """Runs that form no grid get no panels: a panel of a single point shows nothing."""
    networks = [row(14, 0.25, 32), row(26, 0.5, 64), row(50, 0.5, 64)]
    assert set(figures.draw_all(networks)) == {'pareto_multiply_adds', 'accuracy_by_depth'}


def test_a_network_without_a_depth_is_not_on_the_axis_of_depths():
    others = [row(50, 1.0, size) for size in (160, 224)] + [row(101, 1.0, 160)]
    drawn = figures.draw_all([*others, row(14, 1.0, 160) | {'depth': None}])
    depths = [
        number
        for entry in drawn['accuracy_by_depth'].axes[0].containers
        for number in entry.lines[0].get_xdata()
    ]
    assert sorted(depths) == [50, 50, 101]


def test_runs_on_a_cpu_have_no_plot_against_training_time():
    drawn = figures.draw_all([row(devices='4 x TPU v3')])
    assert set(drawn) == {'pareto_latency', 'pareto_multiply_adds'}
    assert set(figures.draw_all([row(devices='1 x cpu')])) == {'pareto_multiply_adds'}


def test_published_networks_stand_beside_imagenet_only():
    def labels(dataset):
        drawn = figures.draw_all([row(dataset=dataset, devices='4 x TPU v3')])
        return {text.get_text() for text in drawn['pareto_latency'].legends[0].get_texts()}

    assert labels('digits') == {'these runs', 'these runs, Pareto front'}
    assert {'ResNet-RS', 'EfficientNet'} < labels('imagenet2012')


class Checker(html.parser.HTMLParser):
    """Checks that every tag is closed, and collects the addresses that the page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.rows = [], [], 0

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ('src', 'href')]
        self.rows += tag == 'tr'
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_documents_come_from_the_table_alone(tmp_path):
    results.write_tables(GRID, tmp_path / 'table')
    names = set()
    for name in 'ab':
        rows = report.read([tmp_path / 'table' / 'results.csv'])
        written = report.write(rows, tmp_path / name, with_runs=False)
        names |= {path.name for path in written}
    assert {
        'results.csv',
        'results.md',
        'report.html',
        'pareto_multiply_adds.svg',
        'accuracy_by_depth.png',
    } <= names
    for name in names:
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes(), name
    page = (tmp_path / 'a' / 'report.html').read_text()
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    assert checker.links and all(link.startswith('data:') for link in checker.links)
    assert not re.search(r'https?://(?!www\.w3\.org)', page)
    assert checker.rows == (1 + 4) + (1 + 8)
    assert '80.20 ± 0.71' not in page and '79.70 ± 0.71' in page  # 26 at 32, both seeds


def test_runs_at_hand_are_linked_with_their_curve(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'metrics.jsonl').write_text(
        '{"step": 1, "kind": "train", "loss": 3}\n{"step": 2, "kind": "train", "loss": 1}\n'
    )
    few_classes = row(workdir=str(run), run='<b>', ema_top5=None, raw_top5=None)
    page = write_page([few_classes], {}, tmp_path, with_runs=True).read_text()
    assert '<button>top-1 EMA' in page and '<button>top-5' not in page
    assert '<a href="run/">&lt;b&gt;</a>' in page
    assert sparkline([3, 1]) in page
    assert '2.0,2.0 118.0,26.0' in sparkline([3, 1])


def test_nothing_to_report(tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit):
        command.main([f'{tmp_path}/empty', f'--output={tmp_path}/out'])
    assert 'no evaluated run in' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_runs_of_one_name_and_datasets_with_a_slash(tmp_path):
    rows = [
        row(run='seed0', settings='a', dataset='digits'),
        row(run='seed0', settings='b', dataset='retina/btgraham-300'),
    ]
    report.write(rows, tmp_path, with_runs=False)
    text = (tmp_path / 'report.html').read_text()
    assert text.partition('<h2>Runs</h2>')[2].count('>seed0<') == 2
    assert list(tmp_path.glob('retina-btgraham-300_*.png'))
