"""The weights of timm's repositories on the Hub."""

from resnet_rs.convert import timm
from resnet_rs.convert.weights import assemble, recognise
from resnet_rs.hub.download import CONFIG, WEIGHTS, fetch
from resnet_rs.hub.timm_repository import Description
from resnet_rs.utils.errors import UserError, count_of


def read_weights(description: Description) -> dict:
    """Returns {'params', 'batch_stats'} of numpy arrays, float32, of a repository.

    Raises UserError where its tensors are not those of the network that config.json names.
    """
    repository, network = description.repository, description.network
    path = fetch(repository, WEIGHTS).path
    classes = description.config.model.num_classes
    try:
        source = timm.read(path, 'ema')
        found = recognise(source, network.variant, classes)
        if (found.name, found.settings) != (network.name, network.settings):
            raise UserError(
                f'its tensors are those of {_named(found)}, but its {CONFIG} names '
                f'{_named(network)}; use another repository'
            )
        head = source.weights['ema'].get('head/kernel')
        if head is None or head.shape[-1] != classes:
            has = 'none' if head is None else count_of(head.shape[-1], 'class')
            raise UserError(
                f'its {CONFIG} says that its classifier has {count_of(classes, "class")}, and it '
                f'has {has}; use another repository'
            )
        return assemble(source, found)[0]['ema']
    except UserError as error:
        message = str(error).removeprefix(f'{path}: ')
        raise UserError(f'{WEIGHTS} of {repository}: {message}') from error


def _named(network) -> str:
    settings = ''.join(f', {name} {value}' for name, value in network.settings.items())
    return f'{network.name}{settings}'
