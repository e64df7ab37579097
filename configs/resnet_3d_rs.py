"""3-D ResNet-RS on Kinetics-400: configs/resnet_3d_rs.py:DEPTH, one of 50 to 350.

    python main.py --config=configs/resnet_3d_rs.py:50 --workdir=DIR \\
      --config.data.source=sequence_examples --config.data.data_dir=DATA

DATA holds train*.tfrecord and validate*.tfrecord, SequenceExamples with Model Garden's keys, and
class_names.txt (docs/video.md). The recipe is that of Model Garden's k400_resnet3drs_50_tpu.yaml:
350 epochs of 215,570 videos (its README says 200), batch 1024, a learning rate of 0.8 with cosine
decay, 32 frames with a stride of 2 at 224 pixels. Training evaluates the middle clip; the thirty
views of the published results, ten clips of three crops at 256 pixels, are the evaluation 'views'.

A video of thirty views has 180 MiB, so a host needs six times that for each video of its part of a
batch: 33.8 GiB for the 32 videos that 'views' has on one host, of the 64 GiB that
data.host_memory_gib allows. On N devices the batch has to be a multiple of N, for instance
--config.evals.views.batch_size=128.

Published top-1 and top-5 of thirty views (Model Garden's README): 50: 78.2 and 93.7; 101: 79.5 and
94.2; 152: 79.9 and 94.3; 200: 80.4 and 94.4. Ours: not run.
"""

from ml_collections import ConfigDict

from resnet_rs.config import default_config
from resnet_rs.utils.errors import UserError

DEPTHS = ('50', '101', '152', '200', '270', '300', '350')


def get_config(depth: str = '50') -> ConfigDict:
    """Returns the settings for a depth of DEPTHS; locked."""
    if depth not in DEPTHS:
        raise UserError(
            f'configs/resnet_3d_rs.py has no variant {depth!r}; it has {", ".join(DEPTHS)}'
        )
    return kinetics(f'resnet_3d_rs_{depth}').lock()


def kinetics(network: str) -> ConfigDict:
    """Returns the recipe for a network on Kinetics-400; unlocked."""
    config = default_config()
    config.batch_size = 1024
    config.duration = '350 epochs'

    config.model.name = network
    config.model.num_classes = 400
    config.model.dropout_rate = 0.5
    config.model.stochastic_depth_rate = 0.1
    config.model.zero_gamma = False
    config.model.padding = 'same'

    config.data.source = 'sequence_examples'
    config.data.data_dir = 'kinetics400'
    config.data.eval_split = 'validate'
    config.data.frames = 32
    config.data.frame_stride = 2
    config.data.image_size = 224
    config.data.resize = 'bilinear'
    config.data.crop_area = (0.08, 1.0)
    config.data.crop_ratio = (0.5, 2.0)
    config.data.augment = 'none'
    config.data.eval_crop = 'fraction 1'
    config.data.mean_rgb = (0.0,) * 3  # pixels of 0 to 1
    config.data.std_rgb = (255.0,) * 3
    config.data.streams = 16
    config.data.shuffle_window = 16
    config.data.host_memory_gib = 64.0

    config.optimizer.learning_rate = 0.2  # 0.8 of a batch of 1024
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 4e-5
    config.optimizer.weight_decay_on = 'kernels'
    config.eval.batch_size = 256
    config.eval.image_size = 256
    config.evals.views = dict(clips=10, crops=3, batch_size=32, every='350 epochs')
    return config
