"""Fine-tuning of a trained or converted network on a folder of one's own images.

    python main.py --config=configs/fine_tune.py:RUN --workdir=DIR --config.data.data_dir=DATA

RUN is the work directory to start from, or a network of the Hub such as hf:timm/resnetrs50.tf_in1k:
the run takes its network, image size, interpolation and normalisation, and starts from its EMA
weights. DATA holds train/CLASS/* and validation/CLASS/*; the classifier is new unless the classes
are the same. All weights are trained. The settings are a first guess and have not been tuned on any
dataset.
"""

from ml_collections import ConfigDict

from configs import image_folder
from resnet_rs.config.stored import CONFIG_FILE
from resnet_rs.hub.timm_repository import find_source_config
from resnet_rs.models.families import family_of
from resnet_rs.utils.errors import UserError

KEPT = ('image_size', 'resize', 'eval_crop', 'mean_rgb', 'std_rgb')


def get_config(directory: str = '') -> ConfigDict:
    """Returns the settings to fine-tune the network in `directory`; locked."""
    source = find_source_config(directory) if directory else None
    if source is None:
        raise UserError(
            f'{directory!r} holds no {CONFIG_FILE}; write configs/fine_tune.py:RUN, where RUN is '
            'the work directory of a trained or converted network'
        )
    if family_of(source.model.name).clips:
        raise UserError(
            f'the network in {directory!r} is {source.model.name}, which takes clips of videos; '
            'configs/fine_tune.py is for images: continue it on videos with --config.init_from and '
            'a configuration such as configs/resnet_3d_rs.py'
        )
    config = image_folder.get_config().unlock()
    config.init_from = directory
    config.duration = '30 epochs'
    config.model.update(source.model)
    config.model.num_classes = 0  # the number of folders
    config.model.batch_norm_momentum = 0.9
    config.model.batch_norm_group_size = 0  # RUN's may not divide this batch
    config.data.update({name: source.data[name] for name in KEPT})
    config.data.augment = 'none'
    config.optimizer.learning_rate = 0.01  # a tenth of the rate for new weights
    config.optimizer.warmup = '1 epoch'
    return config.lock()
