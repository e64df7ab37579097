"""A published folder: its files, its card, and timm's logits from it."""

import json
import os
import types

import numpy as np
import pytest
import safetensors.numpy
from helpers import prepared
from helpers.exported import read_in_process, run_example
from helpers.hash_filled import hash_filled_variables
from PIL import Image

from resnet_rs import publish
from resnet_rs.export import card, timm_config
from resnet_rs.models import create_model
from resnet_rs.run.workdir import load_workdir, write_workdir
from resnet_rs.training.steps import model_of
from resnet_rs.utils.errors import UserError

CLASSES = ('apple', 'pear', 'plum')
SIZE = 32
RIGHT, EXAMPLES = 13, 18
COMMAND = ['main.py', '--config=/home/me/configs/c.py:/home/me/run', '--workdir=/home/me/secret']


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A run of resnet_rs_14 for 3 classes, with data and one evaluation of its step 0."""
    config = prepared.config('image_folder', image_size=SIZE)
    config.data.eval_split = 'val'
    config.model.update({'name': 'resnet_rs_14', 'width_multiplier': 0.25, 'num_classes': 3})
    config.optimizer.weight_decay = 0.125
    config.init_from = '/home/me/secret'
    model = model_of(config, batch_norm_group_size=None, dtype='float32')
    weights = hash_filled_variables(model, 'float32')
    directory = tmp_path_factory.mktemp('work')
    write_workdir(directory, config, {'raw': weights, 'ema': weights})
    (directory / 'class_names.txt').write_text('\n'.join(CLASSES) + '\n')
    environment = {
        'command': COMMAND,
        'commit': 'abcdef',
        'devices': '8 x TPU v3',
        'packages': {'jax': '0.10.2'},
    }
    (directory / 'environment.json').write_text(json.dumps(environment))
    scores = {f'{weights}_{name}': 0.5 for weights in ('raw', 'ema') for name in ('loss', 'top1')}
    lines = ({'step': 0, 'kind': 'train', 'loss': 1.5, 'top1': 0.5}, {'step': 0, 'kind': 'eval'})
    text = ''.join(json.dumps(line | scores) + '\n' for line in lines)
    (directory / 'metrics.jsonl').write_text(text)
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
def published(workdir, tmp_path_factory):
    """The folder of the command and its last two lines."""
    output = tmp_path_factory.mktemp('published') / 'fruit'
    printed = []
    before = os.umask(0o077)
    with pytest.MonkeyPatch.context() as patch:
        read_in_process(patch)
        patch.setattr('builtins.print', lambda line: printed.append(line))
        options = f'--checkpoint={workdir}', f'--output={output}', '--license=cc-by-4.0'
        publish.main([*options, '--check_images=2'])
    os.umask(before)
    return output, printed[-2:]


def test_files(published):
    folder, commands = published
    files = [path for path in folder.rglob('*') if path.is_file()]
    assert {str(path.relative_to(folder)) for path in files} == {
        'README.md',
        'class_names.txt',
        'config.json',
        'curves.png',
        'model.safetensors',
        'stablehlo/export.json',
        'stablehlo/model.stablehlo',
    }
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o755
    assert [line.split() for line in commands] == [
        ['hf', 'repos', 'create', 'NAME/REPOSITORY'],
        ['hf', 'upload', 'NAME/REPOSITORY', str(folder), '.'],
    ]
    state = safetensors.numpy.load_file(folder / 'model.safetensors')
    assert state['fc.weight'].shape == (3, 512)
    assert (folder / 'class_names.txt').read_text().splitlines() == list(CLASSES)
    config = json.loads((folder / 'config.json').read_text())
    assert config['architecture'] == 'resnetrs50' and config['num_features'] == 512
    assert config['model_args'] == {
        'layers': [1, 1, 1, 1],
        'stem_width': 8,
        'channels': [16, 32, 64, 128],
    }


def test_card_has_the_measured_figures_alone(published):
    text = (published[0] / 'README.md').read_text()
    assert text.startswith('---\nlicense: cc-by-4.0\n')
    # Wilson's interval: (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).
    p, z, n = RIGHT / EXAMPLES, 1.959964, EXAMPLES
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((p + z * z / (2 * n) + s * spread) / (1 + z * z / n) for s in (-1, 1))
    row = f'| top-1 | 72.22 % | 13 of 18 | {100 * low:.2f} to {100 * high:.2f} % |'
    assert f'| fruit val, padding 32 | 32 {row}' in text
    assert 'another step' not in text
    assert 'python main.py --config=DIR/c.py:DIR --workdir=DIR\n' in text and '/home' not in text
    assert '| `optimizer.weight_decay` | `0.125` |' in text
    folder = os.path.basename(prepared.image_folder())
    assert f'; trained on {folder}; ' in text and f'Data: {folder}, split' in text
    assert 'imagenet2012' not in text
    assert 'commit abcdef' in text and 'of 72 images' in text and '](curves.png)' in text


def test_results_that_training_logged(workdir, tmp_path):
    config, _, _ = load_workdir(workdir, 'ema')
    network = types.SimpleNamespace(config=config, weights='ema', step=3, image_size=SIZE)
    write = (tmp_path / 'metrics.jsonl').write_text

    def logged(right, examples):
        write(json.dumps({'step': 3, 'kind': 'eval', 'ema_top1': right / examples}) + '\n')
        (result,) = card.results(network, tmp_path)
        assert result['evaluation'].startswith(f'{os.path.basename(config.data.data_dir)} val')
        return result.get('right'), result.get('examples')

    assert card.results(network, tmp_path / 'none') == []
    assert logged(5, EXAMPLES) == (5, EXAMPLES)  # the split is there
    assert logged(3, 7) == (None, None)  # seven of the images: a count is not known
    np.savez(tmp_path / 'predictions.npz', ema_top1=np.arange(7) < 3)
    assert logged(3, 7) == (3, 7)
    (tmp_path / 'predictions.npz').write_bytes(b'PK')
    with pytest.raises(UserError, match='predictions.npz is damaged'):
        card.results(network, tmp_path)


def test_timm_reads_the_folder(published, workdir, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip('torch')
    timm = pytest.importorskip('timm')
    network = timm.create_model(f'local-dir:{published[0]}', pretrained=True).eval()
    config, model, variables = load_workdir(workdir, 'ema', dtype='float32')
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    with torch.inference_mode():
        theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = np.asarray(model.apply(variables, images, False))
    assert np.abs(theirs - ours).max() < 1e-4 * np.abs(ours).max()
    settings = timm.data.resolve_model_data_config(network)
    assert [*settings['input_size']] == [3, SIZE, SIZE] and settings['crop_pct'] == 0.5
    np.testing.assert_allclose(np.multiply(settings['mean'], 255), config.data.mean_rgb)
    assert network.pretrained_cfg['label_names'] == list(CLASSES)
    picture = Image.fromarray((images[0] > 0).astype(np.uint8) * 255)
    picture.save(path := tmp_path / 'picture.png')
    with torch.inference_mode():
        logits = network(timm.data.create_transform(**settings)(picture)[None])
    line = f'{path}: {CLASSES[logits.argmax()]}'
    assert run_example(monkeypatch, capsys, 'with_timm.py', published[0], path) == [line]


@pytest.mark.parametrize(
    'name, settings',
    [
        ('resnet_rs_26', {}),
        ('resnet_18d', {}),
        ('resnet_14c', {}),
        ('se_resnet_50d', {'squeeze_excite_divisor': 8}),
        ('resnet_101', {}),
        ('resnest_14', {'width_multiplier': 0.5}),
        ('resnest_101', {}),
        ('resnest_50_fast_2s2x40d', {}),
        ('efficientnet_b0', {'padding': 'same', 'batch_norm_epsilon': 1e-3}),
    ],
)
def test_shapes_of_timm(name, settings):
    """timm builds the network of config.json with the shapes of the published tensors."""
    torch = pytest.importorskip('torch')
    timm = pytest.importorskip('timm')
    network = shapes_of(name, settings)
    theirs, arguments = timm_config.timm_network(name, network.model.architecture)
    with torch.device('meta'):
        model = timm.create_model(theirs, num_classes=3, **arguments)
    state = timm_config.timm_state(network)
    assert {key: value.shape for key, value in state.items()} == {
        key: tuple(value.shape) for key, value in model.state_dict().items()
    }


def shapes_of(name, settings):
    """Returns what timm_state reads of a network, each array as one zero in its shape."""
    import jax

    from resnet_rs.models import init_variables

    model = create_model(name, num_classes=3, dtype='float32', **settings)
    shapes = jax.eval_shape(lambda: init_variables(model, 64))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    return types.SimpleNamespace(model=model, variables=zeros)


@pytest.mark.parametrize(
    'name, settings, theirs',
    [
        ('resnet_rs_50', {}, ('resnetrs50', {})),
        ('se_resnet_152d', {}, ('seresnet152d', {})),
        ('se_resnet_50d', {}, ('seresnet152d', {'layers': [3, 4, 6, 3]})),
        ('resnest_101', {}, ('resnest101e', {})),
        ('resnest_50_fast_4s2x40d', {}, ('resnest50d_4s2x40d', {})),
        ('efficientnet_b3', {}, ('efficientnet_b3', {})),
        ('efficientnet_b3', {'padding': 'same'}, ('tf_efficientnet_b3', {})),
    ],
)
def test_names_of_timm(name, settings, theirs):
    assert timm_config.timm_network(name, create_model(name, **settings).architecture) == theirs


@pytest.mark.parametrize(
    'name, settings, message',
    [
        ('resnet_50_v1', {}, 'timm has no resnet_50_v1'),
        ('se_resnet_18d', {}, 'timm has no se_resnet_18d'),
        ('resnet_50', {'width_multiplier': 0.5}, 'timm has no resnet_50 of width 0.5'),
        ('resnet_50d', {'output_stride': 8}, 'output_stride 8'),
        ('resnet_50d', {'width_multiplier': 0.3}, 'layers of 9 and 19 channels'),
        ('resnet_3d_14', {}, 'timm has no resnet_3d_14'),
    ],
)
def test_a_network_that_timm_does_not_have_is_refused(name, settings, message):
    with pytest.raises(UserError, match=message):
        timm_config.timm_network(name, create_model(name, **settings).architecture)


def test_classes_of_imagenet_are_synsets():
    labels = timm_config._labels(('n01440764 tench, Tinca tinca', 'n01443537 goldfish'))
    assert labels['label_names'] == ['n01440764', 'n01443537']
    assert labels['label_descriptions']['n01443537'] == 'goldfish'


def test_bad_input_is_one_line_and_writes_nothing(workdir, tmp_path, capsys):
    def error_of(*options):
        with pytest.raises(SystemExit) as exit:
            publish.main([str(option) for option in options])
        assert exit.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    mine, output = tmp_path / 'mine', tmp_path / 'published'
    mine.write_text('text')
    assert 'exists already' in error_of(f'--workdir={workdir}', f'--output={mine}')
    assert mine.read_text() == 'text'
    assert 'name its directory' in error_of(f'--output={output}')
    missing = tmp_path / 'missing'
    assert str(missing) in error_of(f'--checkpoint={missing}', f'--output={output}')
    line = error_of(f'--workdir={workdir}', f'--output={output}', f'--images={missing}')
    assert str(missing) in line
    assert list(tmp_path.iterdir()) == [mine]
