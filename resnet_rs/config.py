"""Every setting of a run with its default: the recipe of the paper (Bello et al. 2021, section 4).

A config file starts from `default_config()` and changes what its experiment changes. Durations
are text with a unit ('350 epochs', '1000 steps', '5000 examples'); `resnet_rs.durations` turns
them into steps.
"""

import ml_collections

IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def default_config() -> ml_collections.ConfigDict:
    """The shared settings of all ResNet-RS runs on ImageNet (fidelity table: docs/fidelity.md)."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.batch_size = 4096  # images per optimiser step over all devices
    config.duration = '350 epochs'
    # A work directory (of a run or of converted weights) whose EMA weights a new run starts from.
    config.init_from = ''

    config.model = ml_collections.ConfigDict({
        'name': 'resnet_rs_50',
        'num_classes': 1000,
        'width_multiplier': 1.0,
        'dropout_rate': 0.25,
        'stochastic_depth_rate': 0.0,
        'dtype': 'bfloat16',  # of activations; parameters, statistics, logits and loss are float32
        'batch_norm_momentum': 0.0,
        # Examples that share batch statistics: a number, 0 for one group per device (as the
        # authors' code, which does not synchronise cores), -1 for the whole global batch.
        'batch_norm_group_size': 0,
        'activation': 'relu',  # or 'swish' (Model Garden)
        'padding': 'symmetric',  # of strided layers; or 'same' (Model Garden)
        'pool_unstrided_shortcut': False,  # True (Model Garden): a stride-1 pool in stage 1
        'squeeze_excite_divisor': 1,  # of hidden widths; timm's se_resnet_18 and 34 use 8
        # Neither changes what is computed; for deep networks (docs/deep_networks.md).
        'scan_blocks': False,  # one loop over the blocks of a stage: compiles sooner
        # What training computes twice to save memory: '' (nothing), 'conv_outputs', 'block'; or
        # such a name for each stage, as in 'block,block,conv_outputs,'.
        'remat': '',
    })

    config.data = ml_collections.ConfigDict({
        'source': 'tfds',  # or 'image_folder': data_dir/SPLIT/CLASS/*.jpg|png
        'name': 'imagenet2012',
        'data_dir': '',  # empty: $TFDS_DATA_DIR, then ~/tensorflow_datasets
        'train_split': 'train',
        'eval_split': 'validation',
        'image_size': 160,
        'resize': 'bicubic_tf1',
        'crop_area': (0.08, 1.0),  # fraction of the image
        'crop_ratio': (3 / 4, 4 / 3),  # width / height
        'flip': True,
        # Of resnet_rs.augment.AUGMENTATIONS; several in turn: 'color_jitter_lighting+randaugment'.
        'augment': 'randaugment',
        # Views of each example in a batch; an epoch still is as many images as the split holds.
        'repeated_augmentation': 1,
        'randaugment_layers': 2,
        'randaugment_magnitude': 10,
        'randaugment_operations': (),  # names to choose from; empty: all of the augmentation's
        # On the device: Beta(alpha, alpha) of mixup and CutMix; 0: off; both: each half the time.
        'mixup_alpha': 0.0,
        'cutmix_alpha': 0.0,
        'eval_crop': 'padding 32',  # or 'fraction 0.875'
        'mean_rgb': IMAGENET_MEAN_RGB,
        'std_rgb': IMAGENET_STD_RGB,
        # Or 'skip': counted, named, no part of the loss; batch statistics count the image before
        # it in the batch once more (docs/input_pipeline.md).
        'corrupt_images': 'fail',
        'streams': 64,  # logical streams of a TFRecord set; must divide the global batch
        'shuffle_window': 128,  # records permuted as a unit within a stream
        'threads': 0,  # 0: one per core
        'prefetch_batches': 2,
        # Encoded files: '', 'disk' (copies in cache_dir) or 'memory' (the training split's).
        'cache': '',
        'cache_dir': '',
        # What reading ahead and a cache in memory may take in one process; logged at the start.
        'host_memory_gib': 16.0,
    })

    config.optimizer = ml_collections.ConfigDict({
        'learning_rate': 0.1,  # per 256 images of global batch
        'schedule': 'cosine',
        'warmup': '5 epochs',
        'momentum': 0.9,
        'nesterov': False,
        'weight_decay': 4e-5,
        # 'kernels_and_biases' (all but batch norm, as the authors' code) or 'kernels'.
        'weight_decay_on': 'kernels_and_biases',
        'label_smoothing': 0.1,
        'gradient_clip_norm': 0.0,  # 0: off
        'accumulation_steps': 1,
    })

    # Where the state lives (docs/sharding.md); changes memory and traffic, not what is learnt.
    config.sharding = ml_collections.ConfigDict({
        # 'data_parallel': replicated; 'zero1': optimiser state and EMA split over the devices of
        # a slice; 'fsdp': parameters too.
        'strategy': 'data_parallel',
        'replicate_below': 16384,  # elements of an array that is not worth splitting
        'slices': 0,  # of a multi-slice run; 0: as many as the devices say
    })

    config.ema = ml_collections.ConfigDict({'decay': 0.9999})

    config.eval = ml_collections.ConfigDict({
        'batch_size': 1024,  # images over all devices
        'every': '5 epochs',
        'image_size': 0,  # 0: data.image_size
    })
    config.checkpoint = ml_collections.ConfigDict({
        'every': '1 epochs',
        'keep_last': 2,
        'keep_best': 1,  # by EMA top-1
    })
    config.log = ml_collections.ConfigDict({'every': '100 steps'})

    # Of the processes of a pod slice.
    config.hosts = ml_collections.ConfigDict({
        'start_timeout_seconds': 300,  # all of them have to have started within
        'lost_after_seconds': 60,  # one that does not answer for this long ends the others
    })
    return config


def flatten(settings: dict, prefix: str = '') -> dict:
    """{'a': {'b': 1}} as {'a.b': 1}."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat
