"""Eight virtual CPU devices for every test, and compiled programs shared between processes."""

import atexit
import gc
import os
import pathlib
import shutil
import sys
import tempfile

from helpers.processes import xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = xla_flags(devices=8)
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'  # compiles in half the time
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='resnet_rs_programs_')
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags, logging  # noqa: E402
from helpers import small_runs  # noqa: E402

from resnet_rs.utils import compilation_cache  # noqa: E402

compilation_cache.enable()

TESTS = pathlib.Path(__file__).parent

# Files marked slow, the longest first: they train whole runs, start processes that import JAX,
# compile for a TPU, or take more than a few seconds altogether.
SLOW = (
    'multihost/test_processes.py',
    'sweep/test_sweep.py',
    'test_train_lib.py',
    'training/test_objectives_distillation.py',
    'training/test_objectives_pseudo_labels.py',
    'test_probe.py',
    'training/test_trainable.py',
    'test_main_imagenet.py',
    'test_train_lib_evaluations.py',
    'training/test_steps_optimised.py',
    'models/test_resnest.py',
    'models/test_efficientnet.py',
    'models/test_fused_tail.py',
    'export/test_export.py',
    'export/test_export_clips.py',
    'hub/test_hub.py',
    'pixels/test_pixels.py',
    'multihost/test_hosts.py',
    'multihost/test_consistency.py',
    'test_input_pipeline_processes.py',
    'run/test_data_check.py',
    'training/test_steps.py',
    'models/test_stacked.py',
    'models/test_resnet.py',
    'benchmarks/test_hostile_files.py',
    'test_input_pipeline_order.py',
    'plan/test_program.py',
    'training/test_mixing.py',
    'training/test_sharding.py',
    'training/test_family_sharding.py',
    'test_family_commands.py',
    'parity/test_training_golden.py',
    'convert/test_sources.py',
    'scripts/test_tpu.py',
    'run/test_old_work_directory.py',
    'run/test_checkpoint.py',
    'training/test_transfer.py',
    'plan/test_attached.py',
    'plan/test_loops.py',
    'plan/test_fit.py',
    'plan/test_plan.py',
    'plan/test_topology.py',
    'plan/test_flops.py',
    'plan/test_hlo.py',
    'models/test_fast_layers.py',
    'test_publish.py',
    'test_input_pipeline_bad_data.py',
    'datasets/test_file_cache.py',
    'convert/test_bad_files.py',
    'convert/test_torch_file.py',
    'convert/test_model_garden.py',
    'models/test_cost.py',
    'convert/test_weights.py',
    'models/test_resnet_3d.py',
    'convert/test_model_garden_clips.py',
    'training/test_inflation.py',
    'datasets/test_clips.py',
    'test_train_lib_clips.py',
    'test_predict_videos.py',
    'test_main_clips.py',
    'docs/test_library.py',
    'configs/test_studies.py',
    'configs/test_fashion_mnist_sweeps.py',
    'datasets/test_computed_labels.py',
    'datasets/test_streams_of_files.py',
    'datasets/test_pseudo_labels.py',
    'test_input_pipeline.py',
    'test_main_evaluation.py',
    'datasets/test_prepare_evaluation_sets.py',
    'convert/test_efficientnet.py',
    'test_predict.py',
    'run/test_loading.py',
    'test_latency.py',
    'datasets/test_prepare.py',
    'datasets/test_digits.py',
    'docs/test_extending.py',
    'test_commands.py',
    'benchmarks/test_input_pipeline.py',
)


def pytest_collection_modifyitems(items):
    """Marks the slow files and puts them first, so that no worker is left with one at the end."""
    rank = {TESTS / name: index for index, name in enumerate(SLOW)}
    for item in items:
        if item.path in rank:
            item.add_marker('slow')
    items.sort(key=lambda item: rank.get(item.path, len(SLOW)))


def pytest_collection_finish():
    """Excludes the modules from garbage collection, which would take a fifth of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope='module')
def one_stage():
    """Networks of 14 layers have one stage in place of four."""
    with pytest.MonkeyPatch.context() as patch:
        small_runs.shorten_networks(patch.setitem)
        yield


@pytest.fixture(scope='module')
def shared_programs():
    """Runs of one configuration trace their steps once."""
    with pytest.MonkeyPatch.context() as patch:
        small_runs.share_programs(patch.setattr)
        yield


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Runs main.py in this process; returns its status, output and lines of error."""
    import main

    added = []
    for method in ('addFilter', 'setFormatter'):
        monkeypatch.setattr(logging.get_absl_handler(), method, added.append)

    def run(*arguments):
        arguments = ['main.py', *map(str, arguments)]
        monkeypatch.setattr(sys, 'argv', arguments)  # where ml_collections looks for overrides
        status = 0
        try:
            main.run(main.parse_flags(arguments))
        except SystemExit as exit:
            status = exit.code
        finally:
            flags.FLAGS.unparse_flags()
            for name in [name for name in flags.FLAGS if name.startswith('config.')]:
                delattr(flags.FLAGS, name)
            for flag in flags.FLAGS.flags_by_module_dict()['main']:
                flag.unparse()
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines() if line.startswith('error: ')]
        return status, printed.out, errors

    return run


@pytest.fixture
def no_report(monkeypatch):
    """Leaves out the pictures at the end of a run, which take longer than its steps."""
    small_runs.leave_out_pictures(monkeypatch.setattr)


@pytest.fixture(scope='module')
def v3_core():
    """One core of a TPU v3; compiled for with the optimisations that are off for other tests."""
    from helpers.tpu import prepare_environment

    from resnet_rs.plan import topology

    with pytest.MonkeyPatch.context() as patch:
        prepare_environment(patch)
        before = jax.config.values['jax_disable_most_optimizations']
        jax.config.update('jax_disable_most_optimizations', False)
        yield topology.open_topology('v3:2x2', devices=1)
        jax.config.update('jax_disable_most_optimizations', before)
