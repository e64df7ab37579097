"""The paper's comparison of pre-training for transfer (Bello et al. 2021, section 7.4); not run.

    python main.py --config=configs/transfer_study.py:improved_50 --workdir=RUN
    python -m resnet_rs.probe --workdir=RUN --data=cifar100
    python main.py --config=configs/transfer.py:simclr/cifar100 --workdir=DIR --config.init_from=RUN

A row trains a plain ResNet, without ResNet-D and squeeze-excite, on ImageNet. `improved` has the
paper's training for 400 epochs, without stochastic depth and EMA; `standard` is the baseline of
configs/additive_study.py at 224 pixels. Probes and fine-tuning then compare the rows on the
classification tasks of configs/transfer.py: the paper has CIFAR-100 among its five tasks;
detection, segmentation and depth are not part of this code. The table of results and the settings
for fine-tuning could not be read, so none are given here.
"""

from ml_collections import ConfigDict

from configs import additive_study
from resnet_rs.utils.errors import UserError

# The 224 pixels, the magnitude and the rate of dropout are choices.
IMPROVED = {
    'duration': '400 epochs',
    'optimizer.schedule': 'cosine',
    'optimizer.label_smoothing': 0.1,
    'optimizer.weight_decay': 4e-5,
    'model.dropout_rate': 0.25,
    'data.augment': 'randaugment',
    'data.randaugment_magnitude': 15,
}
# row              network       training  ours
ROWS = {
    'standard_50':  ('resnet_50', {}),         # not run
    'standard_152': ('resnet_152', {}),        # not run
    'improved_50':  ('resnet_50', IMPROVED),   # not run
    'improved_152': ('resnet_152', IMPROVED),  # not run
}  # fmt: skip


def get_config(row: str = 'improved_50') -> ConfigDict:
    """Returns the settings of a row, locked."""
    if row not in ROWS:
        raise UserError(f'configs/transfer_study.py has no row {row!r}; it has {", ".join(ROWS)}')
    network, settings = ROWS[row]
    config = additive_study.get_config('baseline').unlock()
    config.model.name = network
    config.data.image_size = 224
    config.update_from_flattened_dict(settings)
    return config.lock()
