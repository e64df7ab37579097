"""Students that learn from a teacher: Bag of Tricks, FunMatch, DeiT's hard form, and digits.

    python main.py --config=configs/distillation.py:bag_of_tricks --workdir=DIR \\
      --config.distillation.teacher=TEACHER

TEACHER is the work directory of a run or of converted weights with the same classes
(docs/objectives.md). `digits` needs no accelerator; docs/objectives.md has the command of its
teacher.

"paper" is the top-1 of the student on ImageNet's validation images as published, with the teacher
and the student named there. "ours" is the top-1 of this code.
"""

from ml_collections import ConfigDict

from configs import bag_of_tricks, digits
from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

# He et al. 2019 (arXiv 1812.01187), table 6, and GluonCV's scripts. Student ResNet-50-D, teacher
# ResNet-152-D; with mixup, the teacher was trained with mixup too. All else is as in the rows
# 'label_smoothing' and 'mixup' of configs/bag_of_tricks.py. The script's loss is half of that of
# the labels and half of the teacher's; the paper has their sum, which is twice as large.
BAG_OF_TRICKS = {
    'distillation.form': 'cross_entropy',
    'distillation.temperature': 20.0,
}

# Beyer et al. 2021 (arXiv 2106.05237) and big_vision's configs/proj/distill/bit_i1k.py. Student
# BiT-R50, with group norm and weight standardisation, teacher BiT-M-R152x2, both at 224 pixels,
# or the teacher at 384; this student has batch norm. Not taken over: training on 98 % of the
# training images, Adam's first moment in bfloat16, the scaling of pixels to [-1, 1].
FUNMATCH = {
    'model.name': 'resnet_50',
    'model.dropout_rate': 0.0,
    'model.batch_norm_momentum': 0.9,
    'batch_size': 4096,
    'duration': '1200 epochs',
    'data.image_size': 224,
    'data.augment': 'none',
    'data.crop_area': (0.05, 1.0),
    'data.mixup_alpha': 1.0,  # uniform on [0, 1]
    'data.eval_crop': 'fraction 0.875',
    'optimizer.name': 'adam',
    'optimizer.learning_rate': 0.03 * 256 / 4096,
    'optimizer.warmup': '5000 steps',
    'optimizer.weight_decay': 3e-4 / 0.03,  # theirs is relative to the peak rate
    'optimizer.weight_decay_on': 'kernels',
    'optimizer.gradient_clip_norm': 1.0,
    'distillation.label_weight': 0.0,
}

# Touvron et al. 2020 (arXiv 2012.12877): half of the labels, half of the teacher's prediction.
# Their students are vision transformers with a token for the teacher, so there is no figure for
# this network; the rest is the recipe of ResNet-RS-50.
DEIT_HARD = {'distillation.form': 'hard'}

# row                       settings                                                paper  ours
ROWS = {
    'bag_of_tricks':        BAG_OF_TRICKS,                                        # 78.67  not run
    'bag_of_tricks_mixup':  BAG_OF_TRICKS,                                        # 79.29  not run
    'funmatch_300':         FUNMATCH | {'duration': '300 epochs'},                # 80.30  not run
    'funmatch':             FUNMATCH,                                             # 81.54  not run
    'funmatch_4800':        FUNMATCH | {'duration': '4800 epochs'},               # 82.18  not run
    'funmatch_9600':        FUNMATCH | {'duration': '9600 epochs'},               # 82.31  not run
    'funmatch_384':         FUNMATCH | {'distillation.image_size': 384,
                                        'distillation.second_crop': True},        # 81.82  not run
    'deit_hard':            DEIT_HARD,                                            # -      not run
    'digits':               {'model.width_multiplier': 0.125,
                             'distillation.temperature': 4.0},                    # -      not run
}  # fmt: skip
# The rows that begin with another configuration than the default.
BASES = {
    'bag_of_tricks': lambda: bag_of_tricks.get_config('label_smoothing'),
    'bag_of_tricks_mixup': lambda: bag_of_tricks.get_config('mixup'),
    'digits': digits.get_config,
}


def get_config(row: str = 'bag_of_tricks') -> ConfigDict:
    """Returns the settings of a row without its teacher; locked."""
    if row not in ROWS:
        raise UserError(f'configs/distillation.py has no row {row!r}; it has {", ".join(ROWS)}')
    config = BASES.get(row, default_config)().unlock()
    config.objective = 'distillation'
    config.update_from_flattened_dict(ROWS[row])
    return config.lock()
