"""Fronts against brute force, and the published series against the paper's claims."""

import itertools

import numpy as np
import pytest

from configs import resnet_rs
from resnet_rs.sweep import pareto
from resnet_rs.sweep.pareto import Point, pareto_front, published
from resnet_rs.utils.figures import encode_figure


def brute_force(points):
    def beats(a, b):
        return a.cost <= b.cost and a.top1 >= b.top1 and (a.cost, a.top1) != (b.cost, b.top1)

    return {(p.cost, p.top1) for p in points if not any(beats(q, p) for q in points)}


def test_front_is_what_nothing_beats():
    random = np.random.default_rng(0)
    for size in (0, 1, 2, 40):
        pairs = random.integers(0, 12, (size, 2)).tolist()
        points = [Point(str(i), *pair) for i, pair in enumerate(pairs)]
        front = pareto_front(points)
        assert {(p.cost, p.top1) for p in front} == brute_force(points)
        assert [p.cost for p in front] == sorted({p.cost for p in front})


def test_published_latency_is_the_papers():
    series = published('latency')
    by_label = {point.label: point for points in series.values() for point in points}
    # The paper: RS-350@256 is 2.7 times faster than B6 and RS-420@320 2.9 times faster than B7.
    assert round(by_label['B6'].cost / by_label['350@256'].cost, 1) == 2.7
    assert round(by_label['B7'].cost / by_label['420@320'].cost, 1) == 2.9
    assert by_label['50@160'].cost == 70 / 128
    assert {p.label: p.mark for p in by_label.values() if p.mark} == {
        'B5': 'unverified',
        'B6': 'unverified',
        'B7': 'unverified',
        '152@224': 'suspect',
    }
    assert [p.label for p in series['ResNet-RS']] == list(resnet_rs.TABLE)


def test_published_multiply_adds_are_half_of_what_the_paper_prints():
    by_label = {p.label: p for points in published('multiply_adds').values() for p in points}
    assert [round(2 * by_label[name].cost) for name in ('152@256', '350@256', '420@320')] == [
        31,
        69,
        128,
    ]
    assert len(by_label) == 11 + 8


def test_every_point_of_a_front_carries_its_name():
    points = [Point('a', 1, 50.0), Point('beaten', 2, 40.0), Point('b', 3, 60.0, 0.5)]
    figure = pareto.draw({'runs': points}, 'cost', 'title')
    axes = figure.axes[0]
    assert {text.get_text() for text in axes.texts} == {'a', 'b'}
    [front] = [line for line in axes.lines if line.get_label() == 'runs, Pareto front']
    assert front.get_xydata().tolist() == [[1, 50], [3, 60]]


def test_the_legend_covers_no_point_and_the_axis_has_numbers():
    points = [Point('a', 0.0025, 50.0), Point('b', 0.038, 40.0)]
    figure = pareto.draw({'runs': points}, 'cost', 'title')
    encode_figure(figure, 'png')  # lays it out
    axes, [legend] = figure.axes[0], figure.legends
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    shown = [text.get_text() for text in axes.get_xticklabels(which='major')]
    assert {'0.005', '0.01', '0.02'} <= set(shown)


@pytest.mark.parametrize('costs', [(0.0025,), (0.004, 0.0097)])
def test_a_narrow_axis_has_numbers_that_do_not_overlap_and_no_top1_above_100(costs):
    figure = pareto.draw({'runs': [Point('a', cost, 99.0, 2.0) for cost in costs]}, 'cost', '')
    encode_figure(figure, 'png')  # lays it out
    [axes] = figure.axes
    low, high = axes.get_xlim()
    shown = [
        label.get_window_extent()
        for which in ('major', 'minor')
        for place, label in zip(
            axes.get_xticks(minor=which == 'minor'), axes.get_xticklabels(which=which), strict=True
        )
        if label.get_text() and low <= place <= high
    ]
    assert shown
    for one, other in itertools.combinations(shown, 2):
        assert not one.overlaps(other)
    assert axes.get_ylim()[1] <= 100.5
