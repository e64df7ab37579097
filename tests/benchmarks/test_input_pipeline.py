"""The arithmetic of the input benchmark's table, and that its pipelines give what they measure."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
from helpers import prepared

BENCHMARKS = pathlib.Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def benchmark(monkeypatch):
    # Appended: the benchmark is called input_pipeline.py too.
    monkeypatch.setattr(sys, 'path', [*sys.path, str(BENCHMARKS)])
    spec = importlib.util.spec_from_file_location('benchmark', BENCHMARKS / 'input_pipeline.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_medians_and_ratios(benchmark):
    rates = {
        ('crop_decode', 224, False): [(1000, 0.002), (900, 0.003), (5000, 0.001)],
        ('ours', 224, True): [(600, 0.004)],
        ('timm', 224, True): [(300, 0.010), (200, 0.008)],
    }
    bound, ours, timm = benchmark.table(rates)
    assert (bound['images_per_second'], bound['least'], bound['greatest']) == (1000, 900, 5000)
    assert bound['cpu_ms'] == 2.0 and bound['ours_times'] == bound['pixels'] == ''
    assert (ours['of_bound'], ours['of_bound_cpu'], ours['ours_times']) == (0.6, 0.5, 1.0)
    assert (timm['images_per_second'], timm['cpu_ms']) == (250, 9.0)
    assert (timm['ours_times'], timm['ours_times_cpu']) == (2.4, 2.25)
    assert timm['randaugment'] == 'yes' and timm['pixels'] == 224


def test_own_pipeline_and_bounds_give_batches(benchmark, monkeypatch):
    import pipelines

    monkeypatch.setattr(pipelines, 'BATCH', 8)
    folder = prepared.image_folder()
    for augment in (False, True):
        batch = next(pipelines.ours(folder, 32, augment))
        assert batch.shape == (8, 32, 32, 3) and batch.dtype == np.uint8
    assert next(pipelines.crop_resize(folder, 32, False)).shape == (8, 32, 32, 3)
    assert next(pipelines.crop_decode(folder, 32, False)).shape == (8, 3)
    assert next(pipelines.full_decode(folder, 32, False)).shape == (8, 3)
    assert (next(pipelines.read_only(folder, 32, False)) > 500).all()


def test_rates_count_images_and_cpu_time(benchmark, monkeypatch):
    import pipelines

    monkeypatch.setattr(pipelines, 'WARM_UP_SECONDS', 0.02)

    def busy():
        while True:
            end = pipelines.time.process_time() + 0.01
            while pipelines.time.process_time() < end:
                pass
            yield None

    rate, cpu = pipelines.measure(busy(), 1.0)
    assert rate <= pipelines.BATCH / 0.01
    assert cpu * pipelines.BATCH == pytest.approx(0.01, rel=0.5)  # the kernel counts in 10 ms
