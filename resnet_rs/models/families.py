"""The families of networks; a new one is a file and an entry here (docs/extending.md)."""

import dataclasses
from collections.abc import Mapping

from resnet_rs.models.efficientnet_table import EFFICIENTNETS
from resnet_rs.models.resnest_variants import RESNEST
from resnet_rs.models.resnet_3d_variants import CLIP_NETWORKS
from resnet_rs.models.variants import VARIANTS


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks that one file builds.

    module: the file, imported when a network is built. It has the dataclass `Architecture` with
      the settings of the family's networks, and `build(**settings)`, which returns a flax.linen
      module with the call of residual.ResidualNetwork.
    names: {name of a network: its settings}.
    clips: whether the networks take clips, [batch, frames, height, width, 3], not images.
    """

    module: str
    names: Mapping[str, dict]
    clips: bool = False


FAMILIES = {
    'resnet': Family('resnet_rs.models.resnet', VARIANTS),
    'resnet_3d': Family('resnet_rs.models.resnet_3d', CLIP_NETWORKS, clips=True),
    'resnest': Family('resnet_rs.models.resnest', RESNEST),
    'efficientnet': Family('resnet_rs.models.efficientnet', EFFICIENTNETS),
}


def family_of(name: str) -> Family:
    """Returns the family of a network; raises KeyError for a name that no family has."""
    for family in FAMILIES.values():
        if name in family.names:
            return family
    raise KeyError(name)


def network_names() -> tuple[str, ...]:
    """Returns the names of the networks of all families."""
    return tuple(name for family in FAMILIES.values() for name in family.names)
