"""The networks of ResNet-RS and its relatives; `create_model` builds one by its name.

variants.py is the table of names, registry.py builds from it, resnet.py holds the modules and
layers.py the parts that they share. JAX is imported when one of the functions is first used, so
that a command can look up a name without it.
"""

from resnet_rs.models.variants import VARIANTS

__all__ = ['VARIANTS', 'count_parameters', 'create_model', 'init_variables']


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from resnet_rs.models import registry

    return getattr(registry, name)
