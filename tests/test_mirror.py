"""The tests of a module stand where the module stands, and the docs name tests that exist.

The tests of resnet_rs/ROOM/x.py are in tests/ROOM/test_x.py, or also in test_x_PART.py where one
file is not enough. A room's own name stands for its __init__.py and its command. The tests of the
files at the root, and of the commands in resnet_rs/, are in tests/.
"""

import pathlib
import re

import pytest

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / 'resnet_rs'
# Files outside the package that have tests, in a folder of the same name.
FOLDERS = {'benchmarks': '.py', 'configs': '.py', 'docs': '.md', 'scripts': '.sh'}

# Laws that hold for several modules together.
LAWS = {
    'test_commands.py': 'every command',
    'test_docstrings.py': 'every function',
    'test_family_commands.py': 'the commands with a ResNeSt and an EfficientNet',
    'test_goldens.py': 'every file of recorded numbers',
    'test_makefile.py': 'the Makefile',
    'test_messages.py': 'the messages of every module',
    'test_mirror.py': 'the tests themselves',
    'test_package.py': 'the package as it is installed',
    'test_rooms.py': 'the imports of every module',
    'configs/test_studies.py': 'the rows of all studies',
    'convert/test_bad_files.py': 'damaged files of every format',
    'convert/test_parity_tensorflow.py': 'tf-keras and TF Model Garden, where they are installed',
    'convert/test_sources.py': 'every format gives the same weights',
    'models/test_fast_layers.py': 'networks of fast layers beside those of plain ones',
    'multihost/test_processes.py': 'the processes of a pod slice are one run',
    'parity/test_efficientnet_settings.py': 'configs/ beside what the authors released',
    'parity/test_initial_weights.py': "the initializers beside the authors'",
    'parity/test_released_settings.py': 'configs/ beside what the authors released',
    'parity/test_training_golden.py': 'ten steps beside PyTorch, recorded',
    'parity/test_training_parity.py': 'ten steps beside PyTorch, where it is installed',
    'parity/test_training_parity_clips.py': 'ten steps beside Model Garden, where it is installed',
    'pixels/test_pixels.py': 'decoding and augmentation on every kind of CPU',
    'run/test_old_work_directory.py': 'a work directory of an older commit',
    'training/test_family_sharding.py': 'training a ResNeSt and an EfficientNet on eight devices',
}

# Modules whose tests are those of another file, because that is where their effect can be seen.
ELSEWHERE = {
    'config/__init__.py': 'config/test_table.py',
    'config/augmentations.py': 'augment/test_augment.py',
    'config/clips.py': 'test_train_lib_clips.py',
    'config/mixture.py': 'datasets/test_pseudo_labels.py',
    'config/setting.py': 'config/test_table.py',
    'config/stored.py': 'run/test_preflight.py',
    'config/trainable.py': 'training/test_trainable.py',
    'config/validation.py': 'config/test_table.py',
    'convert/__main__.py': 'convert/test_bad_files.py',
    'convert/data_pickle.py': 'convert/test_torch_file.py',
    'convert/image_sizes.py': 'convert/test_sources.py',
    'convert/keras.py': 'convert/test_sources.py',
    'convert/layer_order.py': 'convert/test_weights.py',
    'convert/resnest.py': 'convert/test_weights.py',
    'convert/tensorflow_checkpoint.py': 'convert/test_sources.py',
    'convert/tf1.py': 'convert/test_sources.py',
    'convert/workdir.py': 'convert/test_sources.py',
    'datasets/clip_preprocessing.py': 'test_predict_videos.py',
    'datasets/decoding.py': 'test_input_pipeline.py',
    'datasets/examples.py': 'test_input_pipeline.py',
    'datasets/image_file.py': 'test_predict.py',
    'datasets/imagenet_classes.py': 'test_predict.py',
    'datasets/labels.py': 'datasets/test_subsets.py',
    'datasets/moving_digits.py': 'datasets/test_clips.py',
    'datasets/pipeline.py': 'test_input_pipeline.py',
    'datasets/reader.py': 'test_input_pipeline_bad_data.py',
    'datasets/records.py': 'test_input_pipeline_order.py',
    'datasets/sources.py': 'test_input_pipeline.py',
    'datasets/splits.py': 'datasets/test_locate.py',
    'datasets/video_folder.py': 'datasets/test_clips.py',
    'export/arguments.py': 'test_commands.py',
    'export/card.py': 'test_publish.py',
    'export/check.py': 'export/test_export.py',
    'export/description.py': 'export/test_export.py',
    'export/jaxpr_graph.py': 'export/test_export.py',
    'export/network.py': 'export/test_export.py',
    'export/onnx.py': 'export/test_export.py',
    'export/reader.py': 'export/test_export.py',
    'export/saved_model.py': 'export/test_export.py',
    'export/stablehlo.py': 'export/test_export.py',
    'export/tflite.py': 'export/test_export.py',
    'export/timm_config.py': 'test_publish.py',
    'hub/download.py': 'hub/test_hub.py',
    'hub/timm_networks.py': 'hub/test_hub_parity.py',
    'hub/timm_repository.py': 'hub/test_hub.py',
    'hub/timm_weights.py': 'hub/test_hub.py',
    'models/__init__.py': 'models/test_cost.py',
    'models/drop_block.py': 'models/test_resnest.py',
    'models/efficientnet_table.py': 'models/test_efficientnet.py',
    'models/families.py': 'docs/test_extending.py',
    'models/registry.py': 'docs/test_extending.py',
    'models/resnest_variants.py': 'models/test_resnest.py',
    'models/resnet_3d_variants.py': 'models/test_resnet_3d.py',
    'models/rules.py': 'models/test_efficientnet.py',
    'models/variants.py': 'models/test_cost.py',
    'plan/hlo_text.py': 'plan/test_flops.py',
    'plan/report.py': 'plan/test_program.py',
    'run/certainty.py': 'run/test_evaluation_page.py',
    'run/features.py': 'test_probe.py',
    'run/labelling.py': 'training/test_objectives_pseudo_labels.py',
    'run/class_names.py': 'training/test_transfer.py',
    'run/predictions.py': 'test_compare.py',
    'run/provenance.py': 'run/test_preflight.py',
    'run/pseudo_labels.py': 'training/test_objectives_pseudo_labels.py',
    'run/source.py': 'training/test_transfer.py',
    'run/start.py': 'training/test_transfer.py',
    'run/teacher.py': 'training/test_objectives_distillation.py',
    'run/workdir.py': 'run/test_loading.py',
    'sweep/figures.py': 'sweep/test_report.py',
    'sweep/page.py': 'sweep/test_report.py',
    'sweep/study_page.py': 'sweep/test_study.py',
    'sweep/workers.py': 'sweep/test_runner.py',
    'training/calibration.py': 'run/test_evaluation_page.py',
    'training/evaluation.py': 'training/test_steps.py',
    'training/gradients.py': 'training/test_steps.py',
    'training/inference.py': 'run/test_loading.py',
    'training/state.py': 'training/test_steps.py',
    'training/teacher.py': 'training/test_objectives_distillation.py',
    'training/window.py': 'training/test_steps.py',
    'utils/compilation_cache.py': 'test_latency.py',
    'utils/environment.py': 'utils/test_platforms.py',
    'utils/figures.py': 'run/test_report.py',
    'utils/files.py': 'datasets/test_file_cache.py',
    'utils/html_page.py': 'run/test_evaluation_page.py',
    'utils/natural_order.py': 'datasets/test_image_folder.py',
    'utils/rules.py': 'config/test_table.py',
    'utils/statistics.py': 'test_probe.py',
    '__init__.py': 'test_package.py',
    'demo.py': 'test_makefile.py',
    'pareto.py': 'sweep/test_pareto.py',
    'pseudo_label.py': 'training/test_objectives_pseudo_labels.py',
    'results.py': 'sweep/test_results.py',
    'study.py': 'sweep/test_study.py',
}


def module_of(file: str) -> str | None:
    """Returns the module whose tests `file` of tests/ holds, or None."""
    path = pathlib.Path(file)
    room, name = path.parent.name, path.stem.removeprefix('test_')
    if not room:
        found = [*ROOT.glob('*.py'), *PACKAGE.glob('*.py')]
    elif room in FOLDERS:
        found = list((ROOT / room).glob('*' + FOLDERS[room]))
    else:
        found = list((PACKAGE / room).glob('*.py'))
    modules = {path.stem: path for path in found}
    if room and (main := modules.get('__main__', modules.get('__init__'))):
        modules[room] = main
    fitting = [stem for stem in modules if name == stem or name.startswith(f'{stem}_')]
    return str(modules[max(fitting, key=len)].relative_to(ROOT)) if fitting else None


def files_of_tests() -> list[str]:
    return sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob('test_*.py'))


def test_a_file_of_tests_belongs_to_a_module_or_is_a_law():
    without = [file for file in files_of_tests() if file not in LAWS and not module_of(file)]
    assert not without
    assert not set(LAWS) - set(files_of_tests())


def test_a_module_has_tests_of_its_name_or_is_listed():
    of_rooms = {module_of(file) for file in files_of_tests() if file not in LAWS}
    modules = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob('*.py')
        if f'resnet_rs/{path.relative_to(PACKAGE)}' not in of_rooms
        and not (path.name == '__init__.py' and 'import' not in path.read_text())
    }
    assert modules == set(ELSEWHERE)
    assert not set(ELSEWHERE.values()) - set(files_of_tests())


@pytest.mark.parametrize('page', sorted(ROOT.glob('docs/**/*.md')) + sorted(ROOT.glob('*.md')))
def test_pages_name_tests_that_exist(page):
    text = page.read_text()
    for file, function in re.findall(r'`(?:tests/)?((?:\w+/)*test_\w+\.py)(?:::(\w+))?`', text):
        assert (TESTS / file).is_file(), file
        assert not function or f'def {function}(' in (TESTS / file).read_text(), function
