"""export.json, the description that lies beside every exported network."""

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib

from resnet_rs.export.check import Agreement
from resnet_rs.export.network import Network
from resnet_rs.utils.environment import git_commit
from resnet_rs.utils.rules import crop_fraction

FILE = 'export.json'
PACKAGES = ('jax', 'jaxlib', 'flax', 'tensorflow-cpu', 'numpy')


def preprocessing(network: Network) -> dict:
    """Returns how an image or a video becomes the input of the network.

    'crop_fraction' is the side of the centre square as a part of the shorter side; None for the
    whole image, which is squashed.
    """
    data = network.config.data
    fraction = crop_fraction(data.eval_crop, network.image_size)
    clip = {'frames': data.frames, 'frame_stride': data.frame_stride} if network.clip else {}
    return clip | {
        'image_size': network.image_size,
        'crop': data.eval_crop,
        'crop_fraction': float(fraction) if fraction else None,
        'kernel': data.resize,
        'mean': list(data.mean_rgb),
        'deviation': list(data.std_rgb),
        'normalisation': 'inside the exported network, (pixels - mean) / deviation',
    }


def describe(
    network: Network,
    format: str,
    folder: pathlib.Path,
    agreement: Agreement,
    facts: dict,
) -> dict:
    """Returns the description of the files in `folder`, with the `facts` of their format."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {
        'format': format,
        **facts,
        'network': network.config.model.name,
        'dtype': network.dtype,
        'weights': network.weights,
        'step': network.step,
        'preprocessing': preprocessing(network),
        'class_names': list(network.class_names),
        'check': dataclasses.asdict(agreement),
        'commit': git_commit(),
        'versions': versions(),
        'files': {
            str(path.relative_to(folder)): {
                'bytes': path.stat().st_size,
                'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        },
    }


def versions() -> dict[str, str]:
    """Returns the versions of the packages that exported a network."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def write(folder: pathlib.Path, description: dict) -> None:
    """Writes export.json into `folder`."""
    (folder / FILE).write_text(json.dumps(description, indent=2, ensure_ascii=False) + '\n')
