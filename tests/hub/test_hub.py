"""Networks of the Hub by name, from a server on this machine that stands in for it."""

import json
import os
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors.numpy
from helpers import hub_server, prepared
from helpers.foreign_weights import timm_shapes
from helpers.framework_parity import require
from helpers.hash_filled import hash_filled_variables, hash_tensor
from helpers.processes import ROOT, environment
from PIL import Image

import resnet_rs
from configs import fine_tune
from resnet_rs.config import default_config
from resnet_rs.convert import __main__ as convert
from resnet_rs.convert import timm
from resnet_rs.convert.weights import paths_of, recognise
from resnet_rs.hub import timm_repository
from resnet_rs.hub.timm_networks import TIMM_NETWORKS, TimmNetwork
from resnet_rs.run import preflight, start
from resnet_rs.run.class_names import stored_class_names
from resnet_rs.run.teacher import load_teacher
from resnet_rs.run.workdir import load_workdir
from resnet_rs.training.networks import model_of
from resnet_rs.training.sharding import create_mesh
from resnet_rs.training.steps import create_program
from resnet_rs.utils.errors import UserError

require('huggingface_hub')

from huggingface_hub import constants, file_download  # noqa: E402

SIZE = 32
CLASSES = ('class2', 'class0', 'class1')
NAME = 'timm/small'
HUB_NAME = f'hf:{NAME}'
MEAN, DEVIATION = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
# A network of 14 layers and a quarter of the width, which timm does not have, under timm's names.
SMALL = TimmNetwork('resnet_rs_14', settings={'width_multiplier': 0.25})
CONFIG = {
    'architecture': 'resnetrs14_small',
    'num_classes': 3,
    'label_names': CLASSES,
    'model_args': {'in_chans': 3, 'num_classes': 3, 'global_pool': 'avg'},
    'pretrained_cfg': {
        'input_size': [3, 24, 24],
        'test_input_size': [3, SIZE, SIZE],
        'interpolation': 'bilinear',
        'crop_pct': 0.9,
        'test_crop_pct': 0.5,
        'crop_mode': 'center',
        'mean': MEAN,
        'std': DEVIATION,
        'num_classes': 1000,
    },
}


@pytest.fixture(scope='module')
def model():
    config = default_config()
    config.model.update({'name': SMALL.name, 'num_classes': 3, **SMALL.settings})
    return model_of(config, batch_norm_group_size=None, dtype='float32')


@pytest.fixture(scope='module')
def variables(model):
    return hash_filled_variables(model, 'float32')


@pytest.fixture(scope='module')
def weights(model, variables):
    """model.safetensors in timm's layout."""
    state = {}
    for path, leaf in paths_of(variables).items():
        array = timm.to_timm_layout(path, leaf)
        key = timm.state_key(path, model.architecture)
        state[key] = hash_tensor(key, array.shape).astype(np.float32)
    return safetensors.numpy.save(state, metadata={'format': 'pt'})


@pytest.fixture
def hub(weights, tmp_path, monkeypatch):
    """A server with the small network, and an empty cache."""
    known = {**TIMM_NETWORKS, CONFIG['architecture']: SMALL}
    monkeypatch.setattr(timm_repository, 'TIMM_NETWORKS', known)
    with hub_server.serving() as server:
        monkeypatch.setattr(constants, 'ENDPOINT', server.address)
        template = server.address + '/{repo_id}/resolve/{revision}/{filename}'
        monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub_cache'))
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
        server.files = {
            f'{NAME}/config.json': json.dumps(CONFIG).encode(),
            f'{NAME}/model.safetensors': weights,
        }
        yield server


def with_config(hub, **changes):
    hub.files[f'{NAME}/config.json'] = json.dumps(CONFIG | changes).encode()


def refused(name=HUB_NAME) -> str:
    """The message with which loading is refused."""
    with pytest.raises(UserError) as error:
        load_workdir(name, 'ema')
    assert '\n' not in str(error.value)
    return str(error.value)


def test_load(hub, model, variables):
    loaded = resnet_rs.load(HUB_NAME)
    # Twice the size: half of the shorter side is exactly the middle, and needs no scaling.
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2 * SIZE, 2 * SIZE, 3), np.uint8)
    middle = pixels[:, SIZE // 2 : -SIZE // 2, SIZE // 2 : -SIZE // 2] / 255
    inputs = ((middle - MEAN) / DEVIATION).astype(np.float32)
    np.testing.assert_allclose(loaded.preprocessing(pixels), inputs, rtol=1e-4, atol=1e-5)
    logits = jax.jit(model.apply, static_argnums=2)(variables, inputs, False)
    assert np.std(logits) > 0.01
    np.testing.assert_allclose(loaded(pixels), logits, rtol=1e-3, atol=1e-4)
    assert loaded.class_names == CLASSES
    found = loaded.preprocessing
    assert (found.image_size, found.crop, found.kernel) == (
        SIZE,
        'fraction 0.5',
        'bilinear_antialias',
    )
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)


def test_a_cached_network_needs_no_hub(hub, variables, monkeypatch):
    first = load_workdir(HUB_NAME, 'ema')[2]
    pinned = f'{HUB_NAME}@{hub.commit}'
    hub.requests.clear()
    load_workdir(pinned, 'ema')
    assert not hub.requests, 'a commit is read from the cache alone'
    hub.status = 503
    again = load_workdir(HUB_NAME, 'raw')[2]
    hub.broken = 'every'
    load_workdir(HUB_NAME, 'ema')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    hub.requests.clear()
    offline = load_workdir(HUB_NAME, 'ema')[2]
    assert not hub.requests
    for found in (first, again, offline):
        jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_convert_predict_and_export_take_the_name(hub, variables, tmp_path, capsys):
    from resnet_rs import predict

    convert.main(['--source=hf', NAME, f'--output={tmp_path / "out"}'])
    printed = capsys.readouterr().out
    assert f'of hf:{NAME}@{hub.commit}' in printed and "not ImageNet's" in printed
    config, _, converted = load_workdir(tmp_path / 'out', 'ema')
    jax.tree.map(np.testing.assert_array_equal, converted, variables)
    assert config == load_workdir(HUB_NAME, 'ema')[0]
    assert stored_class_names(tmp_path / 'out', 3) == CLASSES == stored_class_names(HUB_NAME, 3)

    image = tmp_path / 'image.png'
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    printed = []
    for source in (HUB_NAME, tmp_path / 'out'):
        predict.main([f'--workdir={source}', str(image), '--json'])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and CLASSES[0] in printed[0]

    for option in ('--num_classes=5', '--variant=v1', '--weights=raw', '--checkpoint=7'):
        with pytest.raises(SystemExit):
            convert.main(['--source=hf', NAME, f'--output={tmp_path / "more"}', option])
        assert f'{option} has no effect with --source=hf' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        convert.main(['--source=hf', 'timm/none', f'--output={tmp_path / "more"}'])
    assert 'the Hub has no repository timm/none' in capsys.readouterr().err
    assert not list(tmp_path.glob('*more*'))


def test_a_run_starts_from_it(hub, variables, tmp_path):
    """The head has its columns in the order of the data, on the devices of the run."""
    config = prepared.config('image_folder')
    config.init_from = HUB_NAME
    config.model.update({'name': SMALL.name, 'num_classes': 3, **SMALL.settings})
    info = preflight.check_dataset(config)
    program = create_program(config, create_mesh(), 72)
    head = start.check_init_from(config, info, str(tmp_path / 'run'), program)
    assert head.columns == (1, 2, 0)
    state = start.fine_tuning_start(HUB_NAME, program.init(), head)
    for found in (state.variables, state.ema):
        kernel = found['params']['head']['kernel']
        assert len(kernel.sharding.device_set) == jax.device_count() == 8
        np.testing.assert_array_equal(kernel, variables['params']['head']['kernel'][:, [1, 2, 0]])
        jax.tree.map(np.testing.assert_array_equal, found['batch_stats'], variables['batch_stats'])
    tuned = fine_tune.get_config(HUB_NAME)
    assert (tuned.init_from, tuned.model.name) == (HUB_NAME, SMALL.name)
    assert tuned.data.eval_crop == 'fraction 0.5'


def test_it_teaches(hub, variables, tmp_path):
    config = prepared.config('image_folder')
    config.objective = 'distillation'
    config.distillation.teacher = HUB_NAME
    config.model.num_classes = 3
    # The classes are the same in another order, so the teacher would teach wrong ones.
    info = preflight.check_dataset(config)
    with pytest.raises(UserError, match="class 0 is 'class2' in the teacher in hf:timm/small"):
        preflight.check_teacher(config, info)
    with_config(hub, label_names=sorted(CLASSES))
    preflight.check_teacher(config, info)
    teacher = load_teacher(config, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, teacher.variables, variables)
    assert 'the EMA weights of step 0 in hf:timm/small' in teacher.described


@pytest.mark.parametrize('name', ['resnet18', 'resnetrs50'])
def test_full_networks_by_their_shapes(name):
    """The tensors of timm's listing are those of the network in the table."""
    state = {k: np.broadcast_to(np.float32(0), s) for k, s in timm_shapes(name).items()}
    network = TIMM_NETWORKS[name]
    found = recognise(timm.from_state_dict(state, name), network.variant, 1000)
    assert (found.name, found.settings) == (network.name, network.settings)


def test_sizes_and_classes_of_imagenet(hub):
    """config.json of timm/resnetrs50.tf_in1k, whose fields spec lists, in the older layout too."""
    described = CONFIG['pretrained_cfg'] | {
        'input_size': [3, 160, 160],
        'test_input_size': [3, 224, 224],
        'interpolation': 'bicubic',
        'crop_pct': 0.91,
        'mean': [0.485, 0.456, 0.406],
        'std': [0.229, 0.224, 0.225],
    }
    del described['test_crop_pct']
    for stored in (
        {'architecture': 'resnetrs50', 'num_classes': 1000, 'pretrained_cfg': described},
        {'architecture': 'resnetrs50', **described},
    ):
        hub.files[f'{NAME}/config.json'] = json.dumps(stored).encode()
        found = timm_repository.describe(HUB_NAME)
        data = found.config.data
        assert (found.config.model.name, data.image_size) == ('resnet_rs_50', 160)
        assert (found.config.eval.image_size, data.eval_crop) == (224, 'fraction 0.91')
        assert data.resize == 'bicubic_antialias'
        assert data.mean_rgb == default_config().data.mean_rgb
        assert found.notes == ()
        assert found.class_names[:2] == ('n01440764', 'n01443537')


def test_an_input_of_whole_images_is_read():
    described = CONFIG['pretrained_cfg'] | {'crop_mode': 'squash', 'test_crop_pct': 1}
    assert timm_repository._data(described)['eval_crop'] == 'squash'


def test_networks_that_do_not_fit_are_refused(hub, weights):
    described = CONFIG['pretrained_cfg']
    for changes, message in (
        ({'architecture': 'resnext50_32x4d'}, "architecture 'resnext50_32x4d' is none of the"),
        ({'architecture': 'resnet18'}, 'its tensors are those of resnet_rs_14, width_multiplier'),
        ({'num_classes': 5, 'label_names': None}, 'has 5 classes, and it has 3 classes'),
        ({'num_classes': 0}, 'it has no classifier'),
        ({'label_names': ['a']}, 'its label_names are 1 name for 3 classes'),
        ({'model_args': {'act_layer': 'silu'}}, "with act_layer='silu', which"),
        ({'model_args': {'global_pool': 'max', 'num_classes': 3}}, "with global_pool='max'"),
        ({'pretrained_cfg': described | {'crop_mode': 'squash'}}, "crop_mode is 'squash'"),
        ({'pretrained_cfg': described | {'interpolation': 'random'}}, "interpolation is 'random'"),
        ({'pretrained_cfg': described | {'input_size': [1, 9, 9]}}, 'its input is [1, 9, 9]'),
        ({'pretrained_cfg': described | {'crop_pct': 2, 'test_crop_pct': 0}}, 'data.eval_crop'),
        ({'pretrained_cfg': {}}, 'is not as timm writes it'),
        ({'pretrained_cfg': described | {'label_offset': 1}}, 'classes begin after an offset'),
    ):
        with_config(hub, **changes)
        assert message in refused(), changes
    hub.files[f'{NAME}/config.json'] = b'[1]'
    assert 'is not as timm writes it' in refused()
    hub.files[f'{NAME}/config.json'] = b'{'
    assert 'is damaged' in refused()
    with_config(hub)
    hub.files[f'{NAME}/model.safetensors'] = weights[: len(weights) // 2]
    message = refused()
    assert (
        f'model.safetensors of hf:timm/small@{hub.commit}' in message and 'safetensors' in message
    )


def test_what_is_not_there_is_refused(hub):
    for name, message in (
        ('hf:timm', "'hf:timm' is no name of the Hub; write hf:OWNER/NAME"),
        ('hf:timm/..', 'failed (HFValidationError'),
        ('hf:timm/none', 'the Hub has no repository timm/none, or it is private'),
        (f'{HUB_NAME}@v9', "timm/small has no revision 'v9'"),
        (f'{HUB_NAME}@{"f" * 40}', 'has no revision'),
    ):
        assert message in refused(name)
    content = hub.files.pop(f'{NAME}/model.safetensors')
    hub.files[f'{NAME}/pytorch_model.bin'] = content
    assert 'has no model.safetensors; no other format of weights is read' in refused()
    del hub.files[f'{NAME}/config.json']
    assert 'has no config.json; without it the network is unknown' in refused()
    hub.status = 500
    assert f'{hub.address} answers 500; try later' in refused()
    hub.status = 403
    assert 'answers 403 for config.json of hf:timm/small@main; log in with' in refused()


def test_damaged_downloads_are_refused(hub, weights, monkeypatch):
    key = f'{NAME}/model.safetensors'
    hub.served[key] = weights[: len(weights) // 2]
    assert 'Consistency check failed' in refused()
    hub.served[key] = weights[:-1] + bytes([weights[-1] ^ 1])
    message = refused()
    assert 'is damaged' in message and f'{len(weights):,} bytes' in message
    blob = message.split('damaged: ')[1].split(' has ')[0]
    assert 'remove that file' in refused() and os.path.exists(blob)
    os.remove(blob)
    hub.served.clear()
    load_workdir(HUB_NAME, 'ema')
    with_config(hub, num_classes=4)
    hub.served[f'{NAME}/config.json'] = json.dumps(CONFIG).encode()
    assert 'config.json of hf:timm/small@main is damaged' in refused()


def test_a_dropped_connection(hub, variables, monkeypatch):
    monkeypatch.setattr(file_download.time, 'sleep', lambda seconds: None)
    hub.broken = 'every'
    started = time.monotonic()
    message = refused()
    assert f'{hub.address} cannot be reached' in message and time.monotonic() - started < 5
    hub.broken = ''
    timm_repository.describe(HUB_NAME)  # caches config.json
    hub.broken = 'once'
    found = load_workdir(HUB_NAME, 'ema')[2]  # resumes where the connection broke
    assert hub.broken == ''
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize('offline, seconds', [('1', 1.0), ('', 30.0)])
def test_offline_and_not_cached(offline, seconds, tmp_path):
    """One line, and soon; the command is measured with the start of Python."""
    changes = {'HF_HUB_OFFLINE': offline, 'HF_HOME': str(tmp_path)}
    changes |= {'HF_ENDPOINT': 'http://127.0.0.1:9', 'PYTHONPATH': os.pathsep.join(sys.path)}
    command = [sys.executable, '-m', 'resnet_rs.predict', f'--workdir={HUB_NAME}', 'x.png']
    started, before = time.monotonic(), os.times().children_user
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment(**changes), cwd=ROOT, timeout=60
    )
    used = os.times().children_user - before if offline else time.monotonic() - started
    assert used < seconds
    [line] = result.stderr.splitlines()
    assert result.returncode == 2 and line.startswith(f'error: config.json of {HUB_NAME}@main is')
    assert ('HF_HUB_OFFLINE is set' if offline else 'cannot be reached') in line


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    assert "pip install '.[hub]'" in refused()
