"""Writes reference_logits.json: logits of timm's networks in float64, with hash-filled weights.

    python tests/models/record_reference_logits.py

with the packages of requirements-parity.txt. Nothing of this comes from our networks.
"""

import pathlib
import sys
import warnings

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from helpers.goldens import write_golden  # noqa: E402
from helpers.hash_filled import hash_images, hash_tensor  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
    import timm
    import torch

SIZE = 64
NETWORKS = (
    'resnet18',
    'resnet34',
    'resnet50',
    'resnet50:v1',
    'resnet50c',
    'resnet50d',
    'seresnet50',
    'resnetrs50',
)


def network(name: str) -> torch.nn.Module:
    """Returns timm's network; of 'NAME:v1' the first 1x1 convolution has the stride of a block."""
    name, _, form = name.partition(':')
    model = timm.create_model(name).double().eval()
    if form == 'v1':
        for block in model.modules():
            if isinstance(block, timm.models.resnet.Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    state = {
        key: torch.from_numpy(hash_tensor(key, tuple(tensor.shape)))
        if not key.endswith('num_batches_tracked')
        else tensor
        for key, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def main() -> None:
    images = torch.from_numpy(hash_images(SIZE).transpose(0, 3, 1, 2).copy())
    recorded = {}
    for name in NETWORKS:
        with torch.no_grad():
            logits = network(name)(images).numpy()
        recorded[f'{name}@{SIZE}'] = {
            'first5': logits[0, :5].tolist(),
            'mean': float(logits.mean()),
            'std': float(logits.std()),
            'argmax': int(logits.argmax()),
        }
    write_golden('reference_logits.json', __file__, ('torch', 'timm'), {'logits': recorded})


if __name__ == '__main__':
    main()
