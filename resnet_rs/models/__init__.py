"""The networks of ResNet-RS and its relatives; `create_model` builds one by its name.

families.py lists the families, registry.py builds a network of any family, and layers.py holds the
shared parts. For ResNets, variants.py has the table of names and resnet.py the modules. JAX is
imported when one of the functions is first used, so that a command can look up a name without it.
"""

from resnet_rs.models.variants import VARIANTS

__all__ = ['VARIANTS', 'count_parameters', 'create_model', 'init_variables', 'settings_of']


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from resnet_rs.models import registry

    return getattr(registry, name)
