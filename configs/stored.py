"""The configuration stored in a directory: how a sweep hands its runs to main.py.

    python main.py --config=configs/stored.py:DIR --workdir=DIR
"""

from ml_collections import ConfigDict

from resnet_rs.config.stored import CONFIG_FILE, read_config
from resnet_rs.utils.errors import UserError


def get_config(directory: str = '') -> ConfigDict:
    """What DIR/config.json holds, locked."""
    config = read_config(directory) if directory else None
    if config is None:
        raise UserError(f'{directory!r} holds no {CONFIG_FILE}; write configs/stored.py:DIR')
    return config
