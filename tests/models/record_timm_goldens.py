"""Writes timm_goldens.json: logits and features of timm's hash-filled networks, in a few numbers.

    python tests/models/record_timm_goldens.py

with the packages of requirements-parity.txt. Nothing of this comes from our networks. Float64, eval
mode; hash_filled.py has the recipe of weights and images.
"""

import pathlib
import sys
import warnings

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import torch  # noqa: E402
from helpers.goldens import write_golden  # noqa: E402
from helpers.hash_filled import hash_images, hash_tensor  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
    import timm

# (timm's name, size); after a colon the blocks of every stage in place of the network's own.
LOGITS = [
    ('resnest14d', 64),
    ('resnest14d', 75),
    ('resnest50d', 64),
    ('resnest50d_4s2x40d', 64),
    ('resnest50d_4s2x40d', 75),
    ('resnest50d_1s4x24d:1', 75),
    ('resnest101e:1', 75),
]
# (timm's name, output stride, size): a few numbers of the features of every stage.
FEATURES = [
    ('resnest14d', 32, 75),
    ('resnest26d', 8, 75),
    ('resnest26d', 16, 64),
    ('resnet26d', 8, 75),
    ('resnet26', 16, 75),
    ('resnet18', 8, 75),
    ('tf_efficientnet_b0', 16, 64),
    ('efficientnet_b0', 8, 75),
]


def timm_network(name: str, **settings) -> torch.nn.Module:
    """Returns timm's network of that name with hash-filled weights, float64, in eval mode."""
    name, _, blocks = name.partition(':')
    if blocks:
        settings['layers'] = [int(blocks)] * 4
    network = timm.create_model(name, **settings).double().eval()
    for key, tensor in network.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            tensor.copy_(torch.from_numpy(hash_tensor(key, tuple(tensor.shape))))
    return network


def images(size: int) -> torch.Tensor:
    return torch.from_numpy(hash_images(size).transpose(0, 3, 1, 2).copy())


def logits(name: str, size: int) -> dict:
    with torch.inference_mode():
        values = timm_network(name)(images(size)).numpy()
    return {
        'first5': values[0, :5].tolist(),
        'mean': values.mean(),
        'std': values.std(),
        'argmax': int(values.argmax()),
    }


def features(name: str, output_stride: int, size: int) -> list[dict]:
    levels = (0, 1, 2, 3, 4) if 'efficientnet' in name else (1, 2, 3, 4)
    network = timm_network(
        name, features_only=True, output_stride=output_stride, out_indices=levels
    )
    info = network.feature_info
    with torch.inference_mode():
        stages = network(images(size))
    return [
        {
            'channels': channels,
            'stride': stride,
            'shape': list(stage.shape),
            'mean': stage.mean().item(),
            'std': stage.std(correction=0).item(),
            'corner': stage[0, :3, -1, -1].tolist(),  # where an error of padding shows
        }
        for stage, channels, stride in zip(stages, info.channels(), info.reduction(), strict=True)
    ]


def main() -> None:
    content = {
        'logits': {f'{name}@{size}': logits(name, size) for name, size in LOGITS},
        'features': {
            f'{name}@{size}/{stride}': features(name, stride, size)
            for name, stride, size in FEATURES
        },
    }
    write_golden('timm_goldens.json', __file__, ('torch', 'timm'), content)


if __name__ == '__main__':
    main()
