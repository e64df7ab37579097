"""EfficientNets from and to timm, and from the authors' TF1 checkpoints.

No released checkpoint was at hand: the files are written here, with timm's keys from its own
listing (efficientnet_tensors.txt) and the authors' names as public converters of them have them.
"""

import functools
import pathlib

import numpy as np
import pytest
import safetensors.numpy
from helpers.foreign_weights import write_checkpoint
from helpers.hash_filled import hash_tensor

from resnet_rs.convert.__main__ import main
from resnet_rs.convert.timm import from_state_dict
from resnet_rs.convert.weights import paths_of, recognise
from resnet_rs.run.workdir import load_workdir
from resnet_rs.utils.errors import UserError

LISTING = pathlib.Path(__file__).with_name('efficientnet_tensors.txt')
# The widening convolution is absent from the first block.
TF1_FIRST = {
    'conv_dw': 'depthwise_conv2d',
    'bn1': 'tpu_batch_normalization',
    'se.conv_reduce': 'se/conv2d',
    'se.conv_expand': 'se/conv2d_1',
    'conv_pw': 'conv2d',
    'bn2': 'tpu_batch_normalization_1',
}
TF1_OTHERS = {
    'conv_pw': 'conv2d',
    'bn1': 'tpu_batch_normalization',
    'conv_dw': 'depthwise_conv2d',
    'bn2': 'tpu_batch_normalization_1',
    'se.conv_reduce': 'se/conv2d',
    'se.conv_expand': 'se/conv2d_1',
    'conv_pwl': 'conv2d_1',
    'bn3': 'tpu_batch_normalization_2',
}
TF1_ENDS = {
    'conv_stem': 'stem/conv2d',
    'bn1': 'stem/tpu_batch_normalization',
    'conv_head': 'head/conv2d',
    'bn2': 'head/tpu_batch_normalization',
    'classifier': 'head/dense',
}
NORM = {
    'weight': 'gamma',
    'bias': 'beta',
    'running_mean': 'moving_mean',
    'running_var': 'moving_variance',
}
BLOCKS_BEFORE = (0, 1, 3, 5, 8, 11, 15)  # each stage of B0


@functools.cache
def timm_shapes() -> dict[str, tuple[int, ...]]:
    """{key: shape} of tf_efficientnet_b0 and efficientnet_b0, as recorded from timm."""
    lines = [line for line in LISTING.read_text().splitlines() if not line.startswith('#')]
    return {
        key: tuple(map(int, filter(None, shape.split('x'))))
        for key, _, shape in (line.partition(' ') for line in lines)
    }


def timm_state() -> dict[str, np.ndarray]:
    return {key: hash_tensor(key, shape).astype(np.float32) for key, shape in timm_shapes().items()}


def tf1_tensors(state: dict) -> dict[str, np.ndarray]:
    """The authors' names, with an optimiser's slots and averages of twice the weights."""
    tensors = {'global_step': np.int64(7)}
    for key, array in state.items():
        module, _, leaf = key.rpartition('.')
        if module.startswith('blocks.'):
            _, stage, block, layer = module.split('.', 3)
            names = TF1_OTHERS if int(stage) else TF1_FIRST
            module = f'blocks_{BLOCKS_BEFORE[int(stage)] + int(block)}/{names[layer]}'
        else:
            layer, module = module, TF1_ENDS[module]
        if array.ndim == 4:
            order = (2, 3, 0, 1) if layer == 'conv_dw' else (2, 3, 1, 0)
            array = array.transpose(order)
        if 'batch_normalization' in module:
            leaf = NORM[leaf]
        else:
            kernel = 'depthwise_kernel' if layer == 'conv_dw' else 'kernel'
            leaf = {'weight': kernel, 'bias': 'bias'}[leaf]
            array = array.T if layer == 'classifier' else array
        name = f'efficientnet-b0/{module}/{leaf}'
        tensors[name] = array
        tensors[f'{name}/ExponentialMovingAverage'] = 2 * array
        if 'moving' not in name:
            tensors[f'{name}/RMSProp'] = tensors[f'{name}/RMSProp_1'] = np.zeros_like(array)
    return tensors


def write_timm(path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(timm_state(), path)
    return path


@pytest.mark.parametrize(
    'name, padding, mean',
    (
        ('tf_efficientnet_b0_aa-827b6e33.safetensors', 'same', 0.485 * 255),
        ('tf_efficientnet_b0.ap_in1k/model.safetensors', 'same', 127.5),
        ('efficientnet_b0_ra-3dd342df.safetensors', 'symmetric', 0.485 * 255),
    ),
)
def test_from_timm_and_back(tmp_path, name, padding, mean):
    output, back = tmp_path / 'run', tmp_path / 'back.safetensors'
    main(['--source=timm', str(write_timm(tmp_path / name)), f'--output={output}'])
    config, model, _ = load_workdir(output, 'ema')
    assert config.model.name == 'efficientnet_b0' and config.data.image_size == 224
    assert config.model.padding == model.architecture.padding == padding
    assert config.model.batch_norm_epsilon == (1e-3 if padding == 'same' else 1e-5)
    assert config.data.mean_rgb[0] == pytest.approx(mean)
    assert config.data.resize == ('bicubic_tf1' if padding == 'same' else 'bicubic_antialias')
    main(['--to=timm', f'--workdir={output}', f'--output={back}'])
    written = safetensors.numpy.load_file(back)
    counters = {key for key in written if key.endswith('num_batches_tracked')}
    state = timm_state()
    assert written.keys() - counters == state.keys() and len(counters) == 49
    for key, array in state.items():
        np.testing.assert_array_equal(written[key], array)


def test_from_the_authors_checkpoint(tmp_path):
    state = timm_state()
    write_checkpoint(tmp_path / 'efficientnet-b0' / 'model.ckpt', tf1_tensors(state))
    output = tmp_path / 'run'
    main(['--source=tf1', str(tmp_path / 'efficientnet-b0'), f'--output={output}'])
    config, _, averages = load_workdir(output, 'ema')
    assert config.model.name == 'efficientnet_b0'
    assert (config.model.padding, config.model.batch_norm_epsilon) == ('same', 1e-3)
    raw = paths_of(load_workdir(output, 'raw')[2])
    expected = from_state_dict(state, 'tf_efficientnet_b0').weights['raw']
    assert raw.keys() == expected.keys()
    for path, average in paths_of(averages).items():
        np.testing.assert_array_equal(raw[path], expected[path])
        np.testing.assert_array_equal(average, 2 * expected[path])


def test_files_that_do_not_say_which_form_they_are(tmp_path):
    source = from_state_dict(timm_state(), 'model.safetensors')
    with pytest.raises(UserError, match='give --variant=tf or --variant=timm'):
        recognise(source, 'v1.5', None)
    assert recognise(source, 'tf', None).settings['padding'] == 'same'
    assert recognise(source, 'timm', None).settings['padding'] == 'symmetric'


@pytest.mark.parametrize(
    'remove, message',
    (
        ('bn2.', 'no tensor bn2.weight, which every EfficientNet has'),
        ('blocks.6.', r'stages of \(1, 2, 2, 3, 3, 4, 0\) blocks'),
    ),
)
def test_files_that_are_incomplete(remove, message):
    state = {key: array for key, array in timm_state().items() if not key.startswith(remove)}
    with pytest.raises(UserError, match=message):
        recognise(from_state_dict(state, 'tf_efficientnet_b0'), 'v1.5', None)


def test_tensors_of_another_network():
    state = timm_state() | {'blocks.1.0.conv_mid.weight': np.zeros((4, 4, 1, 1), np.float32)}
    with pytest.raises(UserError, match='1 tensor that no network of this project has'):
        from_state_dict(state, 'tf_efficientnet_b0')


def test_networks_that_timm_does_not_have():
    from resnet_rs.convert.timm import to_state_dict
    from resnet_rs.models import create_model

    for settings in (dict(padding='same'), dict(width_multiplier=0.5)):
        model = create_model('efficientnet_b0', **settings)
        with pytest.raises(UserError, match='timm cannot build a network with'):
            to_state_dict({}, model.architecture)
