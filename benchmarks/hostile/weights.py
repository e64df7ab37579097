"""Files of weights in all formats: writers of good ones, and their readers."""

import contextlib
import functools
import pathlib
import shutil

import numpy as np
import safetensors.numpy
from helpers import foreign_weights, hash_filled

from hostile import ROOT
from hostile.data import CLASSES
from resnet_rs.convert import __main__ as convert
from resnet_rs.convert import timm
from resnet_rs.convert.torch_file import read_torch_file
from resnet_rs.convert.weights import paths_of
from resnet_rs.models import create_model


@functools.cache
def timm_state() -> dict[str, np.ndarray]:
    model = create_model(
        'resnet_rs_14', num_classes=CLASSES, width_multiplier=1 / 16, dtype='float32'
    )
    variables = hash_filled.hash_filled_variables(model, 'float32')
    return {
        timm.timm_key(path, 'deep_strided', 'average_pool'): np.ascontiguousarray(
            timm.to_timm_layout(path, array)
        )
        for path, array in paths_of(variables).items()
    }


def write_safetensors(directory: pathlib.Path) -> list[pathlib.Path]:
    safetensors.numpy.save_file(timm_state(), directory / 'weights.safetensors')
    return [directory / 'weights.safetensors']


def write_keras(directory: pathlib.Path) -> list[pathlib.Path]:
    foreign_weights.write_keras(directory / 'weights.h5', timm_state())
    return [directory / 'weights.h5']


def write_checkpoint(tensors_of, directory: pathlib.Path) -> list[pathlib.Path]:
    foreign_weights.write_checkpoint(directory / 'model.ckpt', tensors_of(timm_state()))
    return [directory / f'model.ckpt.{suffix}' for suffix in ('index', 'data-00000-of-00001')]


def read_weights(source: str, directory: pathlib.Path, file: pathlib.Path) -> None:
    path = directory / 'model.ckpt' if file.name.startswith('model.ckpt') else file
    options = ['--weights=raw'] if source == 'tf1' else []
    try:
        convert.main(
            [
                f'--source={source}',
                str(path),
                f'--output={directory / "out"}',
                f'--num_classes={CLASSES}',
                *options,
            ]
        )
    finally:
        shutil.rmtree(directory / 'out', ignore_errors=True)


def write_torch(form: str, directory: pathlib.Path) -> list[pathlib.Path]:
    """Copies files recorded from torch (tests/convert/data), which need not be installed."""
    recorded = ROOT / 'tests' / 'convert' / 'data' / f'torch_{form}.pth'
    return [shutil.copy(recorded, directory / recorded.name)]


def read_torch(directory: pathlib.Path, file: pathlib.Path) -> None:
    """Reads as convert --source=timm does; the recorded files hold no complete network."""
    with contextlib.chdir(directory):
        read_torch_file(file)
