"""docs/extending.md: its objective trains, and its family is built and trained by name."""

import pathlib
import re
import sys
import types

import jax
import numpy as np
import pytest

from configs import digits
from resnet_rs.models import create_model, families, init_variables
from resnet_rs.training import steps
from resnet_rs.training.sharding import create_mesh, to_global
from resnet_rs.utils.errors import UserError

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'extending.md').read_text()
OBJECTIVE, MODULE, ENTRY = re.findall(r'^```python\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)


def run(block, name):
    module = types.ModuleType(name)
    sys.modules[name] = module  # flax looks a class's module up
    exec(compile(block, 'docs/extending.md', 'exec'), module.__dict__)
    return module


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """The page's family, as if its file and its entry were there."""
    name = 'resnet_rs.models.plain'
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, name, run(MODULE, name))
    monkeypatch.setitem(families.FAMILIES, 'plain', run(ENTRY, 'entry').PLAIN)


def batch_of(size, classes):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, size).astype(np.int32)
    return {
        'image': (
            20 * labels[:, None, None, None] + random.integers(0, 9, (size, 32, 32, 3))
        ).astype(np.uint8),
        'label': labels,
        'mask': np.ones(size, np.float32),
        'index': np.arange(size, dtype=np.int32),
    }


def test_the_family_and_the_objective_train(monkeypatch):
    objective = run(OBJECTIVE, 'objective').bootstrapped(0.9)
    monkeypatch.setattr(steps, 'create_objective', lambda config: objective)
    config = digits.get_config('debug').unlock()
    config.model.name, config.model.width_multiplier = 'plain_4', 1.0
    config.model.dropout_rate, config.model.stochastic_depth_rate = 0.25, 0.0
    config.optimizer.warmup = '0 steps'
    mesh = create_mesh(jax.devices()[:2])
    program = steps.create_program(config, mesh, 1437)
    state, batch = program.init(), to_global(batch_of(16, 10), mesh)
    losses = []
    for _ in range(8):
        state, metrics = program.train_step(state, batch, {})
        losses.append(float(metrics['loss']))
    assert np.isfinite(losses).all() and losses[-1] < 0.7 * losses[0]


def test_outputs_and_settings_of_the_family():
    model = create_model('plain_4', num_classes=7, dtype='float32')
    variables = init_variables(model, 32)
    images = np.zeros((2, 32, 32, 3), np.float32)
    assert model.apply(variables, images, False).shape == (2, 7)
    assert model.apply(variables, images, False, 'pooled').shape == (2, 256)
    stages = model.apply(variables, images, False, 'stages')
    assert [stage.shape[1:] for stage in stages] == [
        (16, 16, 32),
        (8, 8, 64),
        (4, 4, 128),
        (2, 2, 256),
    ]
    with pytest.raises(UserError, match="network 'plain_4' has no setting 'dropout_rate'"):
        create_model('plain_4', dropout_rate=0.1)


def test_a_setting_that_the_family_lacks_stands_at_its_default():
    config = digits.get_config('debug').unlock()
    config.model.name, config.model.width_multiplier = 'plain_5', 1.0
    config.model.stochastic_depth_rate = 0.0
    assert steps.model_of(config).architecture.widths[-1] == 512
    config.model.stochastic_depth_rate = 0.1
    with pytest.raises(UserError, match="'plain_5' has no setting 'stochastic_depth_rate'"):
        steps.model_of(config)
