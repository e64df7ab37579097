"""Writes the names and shapes of the tensors of some of timm's networks, without their values.

    python tests/convert/record_timm_tensors.py

with the packages of requirements-parity.txt. A line of timm_tensors.txt has network, key and shape;
a line of efficientnet_tensors.txt has key and shape of tf_efficientnet_b0, and efficientnet_b0 has
the same. num_batches_tracked is left out.
"""

import pathlib
import sys
import warnings

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import torch  # noqa: E402
from helpers.goldens import provenance  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
    import timm


def tensors(network: str) -> list[str]:
    """Returns the lines 'KEY SHAPE' of timm's `network`."""
    with torch.device('meta'):
        state = timm.create_model(network).state_dict()
    return [
        f'{key} {"x".join(map(str, tensor.shape))}'
        for key, tensor in state.items()
        if not key.endswith('num_batches_tracked')
    ]


def write(file: str, lines: list[str]) -> None:
    header = [f'# {key}: {text}' for key, text in provenance(__file__, ('torch', 'timm')).items()]
    (HERE / file).write_text('\n'.join(header + lines) + '\n')


def main() -> None:
    networks = ('resnet18', 'resnetrs50')
    write('timm_tensors.txt', [f'{name} {line}' for name in networks for line in tensors(name)])
    [lines] = {tuple(tensors(name)) for name in ('tf_efficientnet_b0', 'efficientnet_b0')}
    write('efficientnet_tensors.txt', list(lines))


if __name__ == '__main__':
    main()
