"""Writes efficientnet_logits.json: timm's logits with hash-filled weights, float64, eval mode.

    python tests/models/record_efficientnet_logits.py

with the packages of requirements-parity.txt. Nothing of this comes from our network.
"""

import json
import pathlib
import sys
import warnings

import torch

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from helpers.hash_filled import hash_images, hash_tensor  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
    import timm

SIZES = (64, 75)


def main() -> None:
    references = {}
    for number in range(8):
        for name in (f'tf_efficientnet_b{number}', f'efficientnet_b{number}'):
            references |= logits_of(name)
            write(references)
            print(name, flush=True)


def logits_of(name: str) -> dict:
    """Returns what is kept of a network's logits, {'NAME@SIZE': ...}."""
    network = timm.create_model(name).double().eval()
    for key, tensor in network.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            tensor.copy_(torch.from_numpy(hash_tensor(key, tuple(tensor.shape))))
    references = {}
    for size in SIZES:
        images = torch.from_numpy(hash_images(size).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            logits = network(images)[0].numpy()
        references[f'{name}@{size}'] = {
            'first5': logits[:5].tolist(),
            'mean': float(logits.mean()),
            'std': float(logits.std()),
            'argmax': int(logits.argmax()),
        }
    return references


def write(references: dict) -> None:
    recorded = {
        'recorder': 'tests/models/record_efficientnet_logits.py',
        'versions': f'torch {torch.__version__}, timm {timm.__version__}',
        'logits': references,
    }
    (HERE / 'efficientnet_logits.json').write_text(json.dumps(recorded, indent=1) + '\n')


if __name__ == '__main__':
    main()
