"""ResNeSt on ImageNet by its authors' recipe (Zhang et al. 2020, arXiv 2004.08955).

    python main.py --config=configs/resnest.py:50 --workdir=DIR

trains ResNeSt-50. The settings are those of the authors' GluonCV script: 270 epochs, 5 of them
warm-up, then a cosine; Nesterov momentum; AutoAugment by the policy of its paper, colour jitter and
lighting; mixup; DropBlock whose rate rises to 0.1; weight decay on kernels only; no average of the
weights. Batch norm is not synchronised. "paper" is the top-1 of the paper's text, evaluated at the
size of the second column; "released" that of the authors' PyTorch and GluonCV weights. "ours" is
what this code reached.

Differences from that script: AutoAugment acts on the crop, there on the whole image before it is
cropped; the rate of DropBlock rises with every step, there with every epoch; kernels start as in
their PyTorch code. Row 200 is evaluated with bicubic interpolation there and trained with bilinear;
here both are bicubic.
"""

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

# depth: training and evaluation size, batch, smallest area of a crop, interpolation, dropout
TABLE = {                                                            # paper  released      ours
    '50':  (224, 224, 8192, 0.08, 'bilinear', 0.0),                  # 81.13  81.03, 81.04  not run
    '101': (256, 256, 4096, 0.08, 'bilinear', 0.0),                  # 83.0   82.83, 82.83  not run
    '200': (256, 320, 2048, 0.08, 'bicubic',  0.2),                  # 83.9   83.84, 83.88  not run
    '269': (320, 416, 2048, 0.1,  'bicubic',  0.2),                  # 84.5   84.54, 84.53  not run
}  # fmt: skip


def get_config(row: str = '50') -> ConfigDict:
    """Returns the configuration of a row of TABLE, locked."""
    if row not in TABLE:
        raise UserError(f'configs/resnest.py has no row {row!r}; it has {", ".join(TABLE)}')
    image_size, eval_size, batch_size, least_area, resize, dropout_rate = TABLE[row]
    config = default_config()
    config.batch_size = batch_size
    config.duration = '270 epochs'

    config.model.name = f'resnest_{row}'
    config.model.dropout_rate = dropout_rate
    config.model.drop_block_rate = 0.1
    config.model.initializer = 'he_normal'
    config.model.batch_norm_momentum = 0.9

    config.data.image_size = image_size
    config.data.resize = resize
    config.data.crop_area = (least_area, 1.0)
    config.data.augment = 'autoaugment_imagenet+color_jitter_lighting'
    config.data.mixup_alpha = 0.2

    config.optimizer.schedule = 'cosine_after_warmup'
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.weight_decay_on = 'kernels'
    config.ema.decay = 0.0
    config.eval.image_size = eval_size
    return config.lock()
