"""Fine-tuning on other datasets: the protocols of SimCLR's appendix and of VTAB-1k.

    python -m resnet_rs.datasets.prepare cifar100 --data_dir=DATA
    python main.py --config=configs/transfer.py:simclr/cifar100 --workdir=DIR \\
      --config.data.data_dir=DATA --config.init_from=RUN

RUN is the work directory of a trained or converted network; name its network and its input with
--config.model.name, --config.data.resize, --config.data.mean_rgb and --config.data.std_rgb, where
they differ from ResNet-50's here. Settings are chosen on the first variant of a task; the second,
`simclr/cifar100/final`, trains on training and validation images and evaluates on test images.
Nothing here has been run.

VTAB-1k has 19 tasks. The labels of clevr, kitti, dsprites and smallnorb (seven tasks) are computed
from other features of the set (config.data.label); SimCLR's protocol does not have these
tasks. VTAB squashes images to 224 x 224. caltech101, flowers and pets are scored by the mean of the
accuracies of the classes (as in linusericsson/ssl-transfer, which follows SimCLR; VTAB takes the
top-1). One difference from VTAB's code remains: its new classifier starts at zero, ours at random.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.utils.errors import UserError


class Task(NamedTuple):
    """A dataset of tfds.

    validation: the split that tfds has for validation, or the part of 'train', in percent, at which
      VTAB's validation images begin.
    examples: of 'train'; 0 for a set of fewer than 20,000: VTAB's splits read it from the prepared
      dataset in $TFDS_DATA_DIR.
    validation_examples: of the split `validation`; 0 for fewer than 5,000 or a part of 'train'.
    label: config.data.label.
    mean_per_class: whether SimCLR's protocol reports the mean of the accuracies of the classes.
    """

    name: str
    classes: int
    validation: str | int
    examples: int = 0
    test: str = 'test'
    label: str = ''
    mean_per_class: bool = False
    validation_examples: int = 0


# Splits: google-research/task_adaptation. eurosat and resisc45 have one split; it trains on 60 %
# and validates on the next 20 %, so the rest is for testing (an inference). Sizes: svhn_cropped by
# the catalogue of tfds, dmlab by the card of dpdl-benchmark/dmlab on the Hub; those of sun397,
# patch_camelyon and diabetic_retinopathy are from memory and unverified.
TASKS = {
    'caltech101': Task('caltech101', 102, 90, mean_per_class=True),
    'cifar100': Task('cifar100', 100, 90, 50_000),
    'dtd': Task('dtd', 47, 'validation'),
    'oxford_flowers102': Task('oxford_flowers102', 102, 'validation', mean_per_class=True),
    'oxford_iiit_pet': Task('oxford_iiit_pet', 37, 80, mean_per_class=True),
    'sun397': Task('sun397/tfds', 397, 'validation', 76_128, validation_examples=10_875),
    'svhn_cropped': Task('svhn_cropped', 10, 90, 73_257),
    'patch_camelyon': Task('patch_camelyon', 2, 'validation', 262_144, validation_examples=32_768),
    'eurosat': Task('eurosat/rgb', 10, 60, 27_000, 'train[80%:]'),
    'resisc45': Task('resisc45', 45, 60, 31_500, 'train[80%:]'),
    'diabetic_retinopathy': Task(
        'diabetic_retinopathy_detection/btgraham-300',
        5,
        'validation',
        35_126,
        validation_examples=10_906,
    ),
    'dmlab': Task('dmlab', 6, 'validation', 65_550, validation_examples=22_628),
    'clevr_count': Task('clevr', 8, 90, test='validation', label='count_all'),
    'clevr_distance': Task('clevr', 6, 90, test='validation', label='closest_object_distance'),
    'kitti_distance': Task('kitti', 4, 'validation', label='closest_vehicle_distance'),
    'dsprites_x_position': Task('dsprites', 16, 80, test='train[90%:]', label='x_position'),
    'dsprites_orientation': Task('dsprites', 16, 80, test='train[90%:]', label='orientation'),
    'smallnorb_azimuth': Task('smallnorb', 18, 'test', test='test[50%:]', label='azimuth'),
    'smallnorb_elevation': Task('smallnorb', 9, 'test', test='test[50%:]', label='elevation'),
}

# task_adaptation, scripts/run_all_tasks.sh and model.py: 1,000 steps of 64 images, no augmentation,
# no weight decay, the rate divided by 10 at 300, 600 and 900.
VTAB = {
    'batch_size': 64,
    'duration': '1000 steps',
    'model.batch_norm_momentum': 0.9,
    'data.train_crop': 'evaluation',
    'data.flip': False,
    'data.eval_crop': 'squash',
    'optimizer.learning_rate': 0.01 * 256 / 64,
    'optimizer.schedule': 'step',
    'optimizer.step_at': (0.3, 0.6, 0.9),
    'optimizer.warmup': '80 steps',
    'optimizer.weight_decay': 0.0,
    'eval.every': '1000 steps',
    'checkpoint.every': '500 steps',
}
# Chen et al. 2020 (arXiv 2002.05709), appendix B.8: 20,000 steps of 256 images, random crop and
# flip, weight decay divided by the rate. Rate and decay are the middle of its grids: 7 rates from
# 1e-4 to 1e-1 and 7 decays from 1e-6 to 1e-3, and none.
SIMCLR = {
    'batch_size': 256,
    'duration': '20000 steps',
    'optimizer.learning_rate': 10**-2.5,
    'optimizer.nesterov': True,
    'optimizer.warmup': '0 steps',
    'optimizer.weight_decay': 10**-4.5 / 10**-2.5,
    'data.eval_crop': 'fraction 0.875',
    'eval.every': '2000 steps',
}
PROTOCOLS = {'simclr': SIMCLR, 'vtab': VTAB}


def get_config(variant: str = 'simclr/cifar100') -> ConfigDict:
    """Returns the settings of PROTOCOL/TASK or PROTOCOL/TASK/final, without init_from; locked."""
    protocol, _, rest = variant.partition('/')
    name, _, final = rest.partition('/')
    tasks = [name for name, task in TASKS.items() if protocol == 'vtab' or not task.label]
    if protocol not in PROTOCOLS or name not in tasks or final not in ('', 'final'):
        raise UserError(
            f'configs/transfer.py has no variant {variant!r}; it has PROTOCOL/TASK and '
            f'PROTOCOL/TASK/final, with a protocol of {", ".join(PROTOCOLS)} and a task of '
            f'{", ".join(tasks)}'
        )
    task = TASKS[name]
    config = default_config()
    config.model.name = 'resnet_50'
    config.model.num_classes = task.classes
    config.model.dropout_rate = 0.0
    config.data.name, config.data.label = task.name, task.label
    config.eval.mean_per_class = task.mean_per_class and protocol == 'simclr'
    config.data.image_size = 224
    config.data.augment = 'none'
    config.optimizer.label_smoothing = 0.0
    config.ema.decay = 0.0
    config.update_from_flattened_dict(PROTOCOLS[protocol])
    train, validation = _vtab_splits(task) if protocol == 'vtab' else _whole_splits(task)
    config.data.train_split, config.data.eval_split = train, validation
    if final:
        config.data.train_split, config.data.eval_split = f'{train}+{validation}', task.test
    if protocol == 'simclr':
        # max(1 - 10 / s, 0.9) with s steps per epoch, which is 0.9 below 25,600 images.
        examples = max(_whole_examples(task, bool(final)), 1)
        config.model.batch_norm_momentum = max(1 - 10 * 256 / examples, 0.9)
    return config.lock()


def _vtab_splits(task: Task) -> tuple[str, str]:
    """Returns 800 images for training and 200 for validation."""
    if isinstance(task.validation, str):
        return 'train[:800]', f'{task.validation}[:200]'
    first = _examples(task) * task.validation // 100
    return 'train[:800]', f'train[{first}:{first + 200}]'


def _whole_splits(task: Task) -> tuple[str, str]:
    """Returns all images of both parts; where tfds has one split, the last part is for testing."""
    if isinstance(task.validation, str):
        return 'train', task.validation
    end = '80%' if task.test.startswith('train') else ''
    return f'train[:{task.validation}%]', f'train[{task.validation}%:{end}]'


def _whole_examples(task: Task, final: bool) -> int:
    """Returns the size of what SimCLR's protocol trains on; too small a number for a small set."""
    if isinstance(task.validation, str):
        return task.examples + (task.validation_examples if final else 0)
    end = 80 if task.test.startswith('train') else 100
    return task.examples * (end if final else task.validation) // 100


def _examples(task: Task) -> int:
    """Returns the training examples of a task."""
    if task.examples:
        return task.examples
    config = default_config()
    config.data.name, config.data.label = task.name, task.label
    config.data.train_split = config.data.eval_split = 'train'
    return find_dataset(config.data).split('train').num_examples
