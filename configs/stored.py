"""The configuration stored in a directory; a sweep passes its runs to main.py in this form.

python main.py --config=configs/stored.py:DIR --workdir=DIR
"""

from resnet_rs.config.stored import get_config

__all__ = ['get_config']
