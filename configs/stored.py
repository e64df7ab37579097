"""The configuration stored in a directory: how a sweep hands its runs to main.py.

python main.py --config=configs/stored.py:DIR --workdir=DIR
"""

from resnet_rs.config.stored import get_config

__all__ = ['get_config']
