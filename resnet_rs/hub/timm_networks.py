"""The networks of timm 1.0.31 that this project can build, by timm's names of architectures."""

import dataclasses
import types

from resnet_rs.models.efficientnet_table import COEFFICIENTS, FORMS


@dataclasses.dataclass(frozen=True)
class TimmNetwork:
    """A network of this project that computes what an architecture of timm does.

    name: the network's name in this project.
    variant: the choice that its tensors do not show (convert --variant).
    settings: the settings of config.model that it needs.
    """

    name: str
    variant: str = 'v1.5'
    settings: dict = dataclasses.field(default_factory=dict)


def _networks() -> dict[str, TimmNetwork]:
    networks = {}
    for depth in (50, 101, 152, 200, 270, 350, 420):
        networks[f'resnetrs{depth}'] = TimmNetwork(f'resnet_rs_{depth}')
    for depth in (18, 26, 34, 50, 101, 152, 200):
        networks[f'resnet{depth}'] = TimmNetwork(f'resnet_{depth}')
        networks[f'resnet{depth}d'] = TimmNetwork(f'resnet_{depth}d')
    for depth in (50, 101, 152):
        networks[f'resnet{depth}c'] = TimmNetwork(f'resnet_{depth}c')
        networks[f'seresnet{depth}'] = TimmNetwork(f'se_resnet_{depth}')
    for depth in (18, 34):  # a sixteenth of 64 channels is rounded up
        settings = {'squeeze_excite_divisor': 8}
        networks[f'seresnet{depth}'] = TimmNetwork(f'se_resnet_{depth}', settings=settings)
    for depth in (152, 200):
        networks[f'seresnet{depth}d'] = TimmNetwork(f'se_resnet_{depth}d')
    for depth in ('14d', '26d', '50d', '101e', '200e', '269e'):
        networks[f'resnest{depth}'] = TimmNetwork(f'resnest_{depth[:-1]}')
    for form in ('1s4x24d', '4s2x40d'):
        networks[f'resnest50d_{form}'] = TimmNetwork(f'resnest_50_fast_{form}', 'fast')
    for size in COEFFICIENTS:
        name = f'efficientnet_{size}'
        networks[name] = TimmNetwork(name, 'timm', FORMS['timm'])
        networks[f'tf_{name}'] = TimmNetwork(name, 'tf', FORMS['tf'])
    return networks


TIMM_NETWORKS = types.MappingProxyType(_networks())
