"""Bag of Tricks: its three tables on ResNet-50 (He et al. 2019, arXiv 1812.01187).

    python main.py --config=configs/bag_of_tricks.py:mixup --workdir=DIR

trains a row: its own step and all above it in its table; tables 5 and 6 begin where table 4 ends.
"paper" is top-1 and top-5 on ImageNet. Only those without a question mark were read again for this
file; the others are from memory and unverified. "ours" is what this code reached.

Colour jitter and label smoothing are as in the authors' GluonCV code. As the paper's text has them:
--config.data.augment=hue_jitter_lighting, and
--config.optimizer.label_smoothing_over=other_classes. The paper's rows of distillation are
in configs/distillation.py. Its half precision is float16 with float32 copies of the weights; here
it is bfloat16.
"""

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

# Section 2.1: 120 epochs, a tenth of the rate after 30, 60 and 90 of them.
BASELINE = {
    'duration': '120 epochs',
    'model.name': 'resnet_50_v1', 'model.dropout_rate': 0.0, 'model.dtype': 'float32',
    'model.initializer': 'xavier_uniform', 'model.zero_gamma': False,
    'model.batch_norm_momentum': 0.9,
    'data.image_size': 224, 'data.resize': 'bilinear', 'data.eval_crop': 'fraction 0.875',
    'data.augment': 'color_jitter_lighting',
    'optimizer.learning_rate': 0.1, 'optimizer.schedule': 'step',
    'optimizer.step_at': (0.25, 0.5, 0.75), 'optimizer.warmup': '0 epochs',
    'optimizer.momentum': 0.9, 'optimizer.nesterov': True,
    'optimizer.weight_decay': 1e-4, 'optimizer.weight_decay_on': 'everything',
    'optimizer.label_smoothing': 0.0, 'ema.decay': 0.0,
}  # fmt: skip

# Table 4, for a batch of 256 and of 1024: each step adds to the one above it.
LARGE_BATCH = {                                          # paper at 256   at 1024         ours
    'linear_scaling': {},                                # 75.87, 92.70?  75.17, 92.54?   not run
    'warmup': {'optimizer.warmup': '5 epochs'},          # 76.03, 92.81?  75.93, 92.84?   not run
    'zero_gamma': {'model.zero_gamma': True},            # 76.19, 93.03?  76.37, 92.96?   not run
    'no_bias_decay':
        {'optimizer.weight_decay_on': 'kernels'},        # 76.16, 92.97?  76.03, 92.86?   not run
    'low_precision': {'model.dtype': 'bfloat16'},        # 76.15, 93.09?  76.21, 92.97?   not run
}  # fmt: skip

# Table 5, with all of table 4 at a batch of 1024: one network each.
NETWORKS = {                                             # paper          ours
    'A': {'model.name': 'resnet_50_v1'},                 # 76.21, 92.97?  not run
    'B': {'model.name': 'resnet_50'},                    # 76.66, 93.28?  not run
    'C': {'model.name': 'resnet_50c'},                   # 76.87, 93.48?  not run
    'D': {'model.name': 'resnet_50d'},                   # 77.16, 93.52?  not run
}  # fmt: skip

# Table 6, with network D: each step adds to the one above it.
REFINEMENTS = {                                          # paper          ours
    'efficient': {},                                     # 77.16, 93.52?  not run
    'cosine':
        {'optimizer.schedule': 'cosine_after_warmup'},   # 77.91, 93.81?  not run
    'label_smoothing':
        {'optimizer.label_smoothing': 0.1},              # 78.31, 94.09?  not run
    'mixup': {'data.mixup_alpha': 0.2,
              'duration': '200 epochs'},                 # 79.15, 94.58   not run
}  # fmt: skip

ROWS = (
    *(f'{step}@{batch}' for batch in (256, 1024) for step in LARGE_BATCH),
    *NETWORKS,
    *REFINEMENTS,
)


def get_config(row: str = 'mixup') -> ConfigDict:
    """Returns the configuration of one of ROWS, such as 'warmup@256', 'D' or 'mixup'; locked."""
    if row not in ROWS:
        raise UserError(f'configs/bag_of_tricks.py has no row {row!r}; it has {", ".join(ROWS)}')
    config = default_config()
    config.update_from_flattened_dict(BASELINE)
    step, _, batch = row.partition('@')
    config.batch_size = int(batch or 1024)
    _apply(config, LARGE_BATCH, step if batch else 'low_precision')
    if row in NETWORKS:
        config.update_from_flattened_dict(NETWORKS[row])
    elif row in REFINEMENTS:
        config.update_from_flattened_dict(NETWORKS['D'])
        _apply(config, REFINEMENTS, row)
    return config.lock()


def _apply(config: ConfigDict, steps: dict[str, dict], last: str) -> None:
    """Changes `config` by the steps up to and including `last`."""
    for name, changes in steps.items():
        config.update_from_flattened_dict(changes)
        if name == last:
            break
