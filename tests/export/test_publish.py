"""A published folder: its files, its card, and timm's logits from it."""

import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy
from helpers import prepared
from helpers.hash_filled import hash_filled_variables

from resnet_rs import publish
from resnet_rs.convert.workdir import write_workdir
from resnet_rs.export import hub
from resnet_rs.run.workdir import load_workdir
from resnet_rs.training.steps import model_of
from resnet_rs.utils.errors import UserError

CLASSES = ('apple', 'pear', 'plum')
SIZE = 32
RIGHT, EXAMPLES = 13, 18


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A work directory of resnet_18d for 3 classes, with data and one evaluation of step 0."""
    config = prepared.config('image_folder', image_size=SIZE)
    config.data.eval_split = 'val'
    config.model.update({'name': 'resnet_18d', 'num_classes': 3})
    config.optimizer.weight_decay = 0.125
    model = model_of(config, batch_norm_group_size=None, dtype='float32')
    weights = hash_filled_variables(model, 'float32')
    directory = tmp_path_factory.mktemp('work')
    write_workdir(directory, config, {'raw': weights, 'ema': weights})
    (directory / 'class_names.txt').write_text('\n'.join(CLASSES) + '\n')
    (directory / 'environment.json').write_text(
        json.dumps(
            {
                'command': ['main.py', '--config=c.py', '--workdir=/home/me/secret'],
                'commit': 'abcdef',
                'devices': '8 x TPU v3',
                'packages': {'jax': '0.10.2'},
            }
        )
    )
    result = {
        'step': 0,
        'data': 'fruit',
        'split': 'val',
        'crop': 'padding 32',
        'image_size': SIZE,
        'examples': EXAMPLES,
        'weights': {'ema': {'top1': RIGHT / EXAMPLES, 'top1_count': RIGHT}},
    }
    (directory / 'evaluations').mkdir()
    (directory / 'evaluations' / 'val_32_0.json').write_text(json.dumps(result))
    other = result | {'step': 7, 'data': 'another step'}
    (directory / 'evaluations' / 'val_32_7.json').write_text(json.dumps(other))
    return directory


@pytest.fixture(scope='module')
def folder(workdir, tmp_path_factory):
    output = tmp_path_factory.mktemp('published') / 'fruit'
    publish.main([f'--workdir={workdir}', f'--output={output}', '--license=cc-by-4.0'])
    return output


def test_files(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}
    assert names == {
        'README.md',
        'class_names.txt',
        'config.json',
        'model.safetensors',
        'stablehlo/export.json',
        'stablehlo/model.stablehlo',
    }
    for path in folder.rglob('*'):
        assert path.stat().st_mode & 0o444 == 0o444, path
    state = safetensors.numpy.load_file(folder / 'model.safetensors')
    assert state['fc.weight'].shape == (3, 512)


def test_card_has_the_measured_figures_alone(folder):
    text = (folder / 'README.md').read_text()
    assert text.startswith('---\nlicense: cc-by-4.0\n')
    # Wilson's interval: (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).
    p, z, n = RIGHT / EXAMPLES, 1.959964, EXAMPLES
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((p + z * z / (2 * n) + s * spread) / (1 + z * z / n) for s in (-1, 1))
    row = f'| top-1 | 72.22 % | 13 of 18 | {100 * low:.2f} to {100 * high:.2f} % |'
    assert f'| fruit val, padding 32 | 32 {row}' in text
    assert 'another step' not in text
    assert 'python main.py --config=c.py --workdir=DIR' in text and 'secret' not in text
    assert '| `optimizer.weight_decay` | `0.125` |' in text
    assert 'commit abcdef' in text


def test_timm_reads_the_folder(folder, workdir):
    torch = pytest.importorskip('torch')
    timm = pytest.importorskip('timm')
    network = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    config, model, variables = load_workdir(workdir, 'ema', dtype='float32')
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    with torch.inference_mode():
        theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = np.asarray(model.apply(variables, images, False))
    assert np.abs(theirs - ours).max() < 1e-4 * np.abs(ours).max()
    settings = timm.data.resolve_model_data_config(network)
    assert settings['input_size'] == (3, SIZE, SIZE) and settings['crop_pct'] == 0.5
    np.testing.assert_allclose(np.multiply(settings['mean'], 255), config.data.mean_rgb)
    assert network.pretrained_cfg['label_names'] == list(CLASSES)


@pytest.mark.parametrize(
    'name, theirs',
    [('resnet_rs_50', 'resnetrs50'), ('se_resnet_152d', 'seresnet152d'), ('resnet_26', 'resnet26')],
)
def test_names_of_timm(name, theirs):
    assert hub.timm_name(name) == theirs


def test_a_network_that_timm_does_not_have_is_refused():
    with pytest.raises(UserError, match='timm has no resnet_rs_14'):
        hub.timm_name('resnet_rs_14')


def test_an_existing_output_stays(workdir, tmp_path, capsys):
    (tmp_path / 'mine').write_text('text')
    with pytest.raises(SystemExit):
        publish.main([f'--workdir={workdir}', f'--output={tmp_path / "mine"}'])
    assert 'exists already' in capsys.readouterr().err
    assert pathlib.Path(tmp_path / 'mine').read_text() == 'text'
