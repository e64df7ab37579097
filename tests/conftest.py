"""Eight virtual CPU devices for every test, and compiled programs shared between processes."""

import atexit
import gc
import os
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

# Files marked slow, the longest first: they train whole runs, start processes that import JAX,
# compile for a TPU, or take more than a few seconds altogether.
SLOW = (
    'test_processes.py',
    'test_sweep.py',
    'test_train_lib.py',
    'test_distillation.py',
    'test_pseudo_label_training.py',
    'test_probe.py',
    'test_trainable.py',
    'test_imagenet_run.py',
    'test_several_evaluations.py',
    'test_optimised_program.py',
    'test_resnest.py',
    'test_efficientnet.py',
    'test_fused_tail.py',
    'test_export.py',
    'test_hub.py',
    'test_pixels.py',
    'test_hosts.py',
    'test_consistency.py',
    'test_input_processes.py',
    'test_data_check.py',
    'test_steps.py',
    'test_scan.py',
    'test_reference_logits.py',
    'test_hostile_files.py',
    'test_input_order.py',
    'test_program.py',
    'test_mixing.py',
    'test_sharding.py',
    'test_training_golden.py',
    'test_sources.py',
    'test_tpu_script.py',
    'test_old_work_directory.py',
    'test_checkpoint.py',
    'test_transfer.py',
    'test_attached.py',
    'test_loops.py',
    'test_fit.py',
    'test_flops.py',
    'test_hlo.py',
    'test_fast_layers.py',
    'test_publish.py',
    'test_input_bad_data.py',
    'test_file_cache.py',
    'test_bad_files.py',
    'test_counts.py',
    'test_recognise.py',
    'test_resnet_3d.py',
    'test_model_garden_clips.py',
    'test_inflation.py',
    'test_clips.py',
    'test_clip_run.py',
    'test_predict_videos.py',
    'test_library_page.py',
    'test_studies.py',
    'test_pseudo_labels.py',
    'test_input_pipeline.py',
    'test_evaluation_command.py',
    'test_evaluation_sets.py',
    'test_efficientnet_weights.py',
    'test_predict.py',
    'test_loading.py',
    'test_latency.py',
    'test_prepare.py',
    'test_extending_page.py',
    'test_commands.py',
    'test_benchmark.py',
)


def pytest_collection_modifyitems(items):
    """Marks the slow files and puts them first, so that no worker is left with one at the end."""
    rank = {name: index for index, name in enumerate(SLOW)}
    for item in items:
        if item.path.name in rank:
            item.add_marker('slow')
    items.sort(key=lambda item: rank.get(item.path.name, len(SLOW)))


def pytest_collection_finish():
    """Spares the collector the modules, and most searches: they take a fifth of the time."""
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
    from resnet_rs.plan import topology

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ('TPU_SKIP_MDS_QUERY', '1'),
            ('ALLOW_MULTIPLE_LIBTPU_LOAD', '1'),
            ('TPU_ACCELERATOR_TYPE', 'v3-8'),
            ('TPU_WORKER_HOSTNAMES', 'localhost'),
        ):
            patch.setenv(name, value)
        before = jax.config.values['jax_disable_most_optimizations']
        jax.config.update('jax_disable_most_optimizations', False)
        yield topology.open_topology('v3:2x2', devices=1)
        jax.config.update('jax_disable_most_optimizations', before)
