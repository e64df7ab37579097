"""Random weights of timm's networks: converted, the same logits in float64, and back bitwise."""

import warnings

import jax
import numpy as np
import pytest
import safetensors.numpy
from helpers.framework_parity import our_logits, random_variable, relative_difference, require

from resnet_rs.convert.__main__ import main
from resnet_rs.run.workdir import load_workdir

require('torch', 'timm')

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
    import timm
    import torch

TOLERANCE = 1e-9
# Every stem, block, shortcut and rounding; the deeper ones differ in stage sizes only.
NETWORKS = {
    'resnet18': 'resnet_18',
    'resnet50': 'resnet_50',
    'resnet50c': 'resnet_50c',
    'resnet18d': 'resnet_18d',
    'resnet50d': 'resnet_50d',
    'seresnet18': 'se_resnet_18',
    'seresnet50': 'se_resnet_50',
    'resnetrs50': 'resnet_rs_50',
    'resnest14d': 'resnest_14',
    'resnest50d_4s2x40d': 'resnest_50_fast_4s2x40d',
    'resnest50d_1s4x24d': 'resnest_50_fast_1s4x24d',
    'tf_efficientnet_b0': 'efficientnet_b0',
    'efficientnet_b0': 'efficientnet_b0',
}
DEPTHS = {
    'resnet26': 'resnet_26',
    'resnet34': 'resnet_34',
    'resnet101': 'resnet_101',
    'resnet152': 'resnet_152',
    'resnet200': 'resnet_200',
    'resnet101c': 'resnet_101c',
    'resnet152c': 'resnet_152c',
    'resnet26d': 'resnet_26d',
    'resnet34d': 'resnet_34d',
    'resnet101d': 'resnet_101d',
    'resnet152d': 'resnet_152d',
    'resnet200d': 'resnet_200d',
    'seresnet34': 'se_resnet_34',
    'seresnet101': 'se_resnet_101',
    'seresnet152': 'se_resnet_152',
    'seresnet152d': 'se_resnet_152d',
    'seresnet200d': 'se_resnet_200d',
    'resnetrs101': 'resnet_rs_101',
    'resnetrs152': 'resnet_rs_152',
    'resnetrs200': 'resnet_rs_200',
    'resnetrs270': 'resnet_rs_270',
    'resnetrs350': 'resnet_rs_350',
    'resnetrs420': 'resnet_rs_420',
    'resnest26d': 'resnest_26',
    'resnest50d': 'resnest_50',
    'resnest101e': 'resnest_101',
    'resnest200e': 'resnest_200',
    'resnest269e': 'resnest_269',
} | {f'tf_efficientnet_b{number}': f'efficientnet_b{number}' for number in range(1, 8)}


def random_network(name: str):
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    rng = np.random.default_rng(0)
    for key, tensor in network.state_dict().items():
        if (values := random_variable(key, tuple(tensor.shape), rng)) is not None:
            tensor.copy_(torch.from_numpy(np.asarray(values)))
    return network


def check(name, ours, sizes, tmp_path):
    network = random_network(name)
    state = network.state_dict()
    file = tmp_path / f'{name}.pth'
    torch.save(state, file)
    work, back = tmp_path / 'out', tmp_path / 'back.safetensors'
    main(['--source=timm', str(file), f'--output={work}'])
    assert load_workdir(work, 'ema')[0].model.name == ours

    network = network.double()
    for size in sizes:
        images = np.random.default_rng(size).normal(size=(2, size, size, 3))
        with torch.inference_mode():
            theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        difference = relative_difference(our_logits(work, images, compiled=False), theirs)
        print(f'timm {name}@{size}: {difference:.1e}')
        assert difference < TOLERANCE

    main(['--to=timm', f'--workdir={work}', f'--output={back}'])
    returned = safetensors.numpy.load_file(back)
    assert returned.keys() == state.keys()
    for key, tensor in state.items():
        np.testing.assert_array_equal(returned[key], tensor.numpy(), err_msg=key)
    timm.create_model(name).load_state_dict(
        {key: torch.from_numpy(array) for key, array in returned.items()}, strict=True
    )


@pytest.mark.parametrize('name, ours', NETWORKS.items())
def test_network(name, ours, tmp_path):
    check(name, ours, (64, 75), tmp_path)


@pytest.mark.parametrize('name, ours', DEPTHS.items())
def test_depth(name, ours, tmp_path):
    check(name, ours, (65,), tmp_path)


@pytest.mark.parametrize('zip_format', [True, False])
def test_torch_file(zip_format, tmp_path):
    """Compares the tensors of both formats of torch.save with those of safetensors."""
    state = random_network('resnet18').state_dict()
    torch.save(state, tmp_path / 'a.pth', _use_new_zipfile_serialization=zip_format)
    safetensors.numpy.save_file(
        {key: tensor.numpy() for key, tensor in state.items()}, tmp_path / 'b.safetensors'
    )
    variables = []
    for file in ('a.pth', 'b.safetensors'):
        output = tmp_path / f'{file}.out'
        main(['--source=timm', str(tmp_path / file), f'--output={output}'])
        variables.append(load_workdir(output, 'ema')[2])
    assert jax.tree.all(jax.tree.map(np.array_equal, *variables))
