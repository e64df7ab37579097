"""The table and config.json of timm's repositories against timm itself."""

import json
import warnings

import numpy as np
import pytest
from helpers.framework_parity import require

from resnet_rs.convert.timm import from_state_dict
from resnet_rs.convert.weights import recognise
from resnet_rs.hub import timm_repository
from resnet_rs.hub.download import Repository
from resnet_rs.hub.timm_networks import TIMM_NETWORKS

require('torch', 'timm')

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
    import timm
    import torch
    from timm.models._hub import save_config_for_hf


def created(name: str, **settings):
    """A network of timm without values."""
    with torch.device('meta'):
        return timm.create_model(name, **settings)


@pytest.mark.parametrize('architecture', TIMM_NETWORKS)
def test_the_table_agrees_with_timms_tensors(architecture):
    state = {
        name: np.broadcast_to(np.float32(0), tuple(tensor.shape))
        for name, tensor in created(architecture).state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    network = TIMM_NETWORKS[architecture]
    found = recognise(from_state_dict(state, architecture), network.variant, 1000)
    assert (found.name, found.settings) == (network.name, network.settings)


@pytest.mark.parametrize(
    'name',
    [
        'resnetrs50.tf_in1k',
        'resnet50.tv2_in1k',
        'resnest50d_1s4x24d.in1k',
        'seresnet152d.ra2_in1k',
        'tf_efficientnet_b0.ap_in1k',
        'efficientnet_b5.sw_in12k',
    ],
)
def test_preprocessing_is_timms(name, tmp_path):
    model = created(name)
    save_config_for_hf(model, tmp_path / 'config.json')
    stored = json.loads((tmp_path / 'config.json').read_text())
    config = timm_repository._description(stored, Repository(f'timm/{name}', '0' * 40)).config
    theirs = timm.data.resolve_data_config({}, model=model, use_test_size=True)
    size = config.eval.image_size or config.data.image_size
    assert theirs['input_size'] == (3, size, size)
    assert config.data.image_size == model.pretrained_cfg['input_size'][1]
    assert config.data.eval_crop == f'fraction {theirs["crop_pct"]}'.removesuffix('.0')
    assert config.data.resize == f'{theirs["interpolation"]}_antialias'
    np.testing.assert_allclose(config.data.mean_rgb, np.multiply(theirs['mean'], 255))
    np.testing.assert_allclose(config.data.std_rgb, np.multiply(theirs['std'], 255))
    assert config.model.num_classes == model.num_classes
