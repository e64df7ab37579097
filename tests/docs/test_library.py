"""docs/library.md: its blocks of code run in turn, and its table has the defaults of the code."""

import pathlib
import re

import jax
import numpy as np
import pytest
from helpers.hash_filled import hash_filled_variables
from PIL import Image

from resnet_rs.config import SETTINGS, default_config
from resnet_rs.models import create_model
from resnet_rs.run.workdir import write_workdir
from resnet_rs.training.steps import model_of

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'library.md').read_text()


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The names that the blocks define, with DIR as a work directory of three classes."""
    config = default_config()
    config.model.update({'name': 'resnet_rs_14', 'width_multiplier': 0.25, 'num_classes': 3})
    config.data.image_size = 32
    variables = hash_filled_variables(model_of(config, batch_norm_group_size=None), 'float32')
    write_workdir(tmp_path / 'DIR', config, {'raw': variables, 'ema': variables})
    random = np.random.default_rng(0)
    for name in ('photo.jpg', 'other.png'):
        Image.fromarray(random.integers(0, 256, (70, 90, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    namespace = {}
    blocks = re.findall(r'^```python\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, 'docs/library.md', 'exec'), namespace)
    return namespace


def test_the_blocks_do_what_the_page_says(names):
    assert len(names['names']) == 2 and set(names['names']) <= {f'class {n}' for n in range(3)}
    assert names['logits'].shape == (2, 3) and names['logits'].dtype == np.float32
    assert names['pooled'].shape == (2, 512) and names['pooled'].dtype == np.float32
    head = names['loaded'].variables['params']['head']
    np.testing.assert_allclose(
        names['pooled'] @ head['kernel'] + head['bias'], names['logits'], rtol=1e-3, atol=1e-3
    )
    assert [stage.shape for stage in names['stages']] == [
        (2, 8, 8, 64),
        (2, 4, 4, 128),
        (2, 2, 2, 256),
        (2, 1, 1, 512),
    ]

    losses = names['losses']
    assert len(losses) == 10 and np.isfinite(losses).all() and losses[-1] < 0.7 * losses[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(names['variables']))


def test_the_table_of_defaults():
    rows = re.findall(r'^\| `(\w+)` \| (\S+) \| (\S+) \|$', PAGE, re.MULTILINE)
    assert len(rows) == 4
    architecture = create_model('resnet_rs_50').architecture
    for name, of_library, of_run in rows:
        found = getattr(architecture, name)
        assert (found.name if name == 'dtype' else str(found)) == of_library
        assert str(SETTINGS[f'model.{name}'].default) == of_run
