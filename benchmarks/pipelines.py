"""The measured pipelines, each an endless iterator of batches, and the process that runs them.

The benchmark starts a process for the TensorFlow pipelines and one for PyTorch's, so that the
threads and forks of one library do not affect the other. It sends them requests in turn through
standard input, one JSON object a line, and each answers with a line on standard output.
"""

import glob
import json
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import resnet_rs  # noqa: E402, F401 - prepares the environment for TensorFlow

BATCH = 128
CORES = len(os.sched_getaffinity(0))
WARM_UP_SECONDS = 1.5


def ours(directory, size, augment):
    """Returns this project's uint8 batches with the paper's augmentation."""
    import input_pipeline

    return (
        batch['image'] for batch in input_pipeline.train_batches(_config(directory, size, augment))
    )


def _config(directory, size, augment):
    from resnet_rs.config import default_config

    config = default_config()
    config.batch_size = BATCH
    config.data.source, config.data.data_dir = 'image_folder', directory
    config.data.image_size = size
    config.data.augment = 'randaugment' if augment else 'none'
    return config


def _encoded(directory):
    """Returns endless encoded images in a shuffled order, read from files."""
    import tensorflow as tf

    files = sorted(glob.glob(f'{directory}/train/*/*.JPEG'))
    return tf.data.Dataset.from_tensor_slices(files).repeat().shuffle(len(files), seed=0)


def _stage(directory, work):
    """Returns batches of `work(encoded bytes, seed)`, computed on all cores."""
    import tensorflow as tf

    seeds = tf.data.Dataset.random(seed=0)
    dataset = tf.data.Dataset.zip(_encoded(directory), seeds).map(
        lambda file, seed: work(tf.io.read_file(file), tf.stack([seed, 0])),
        num_parallel_calls=CORES,
        deterministic=True,
    )
    dataset = dataset.batch(BATCH, drop_remainder=True).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = CORES
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options).as_numpy_iterator()


def read_only(directory, size, augment):
    """Reads the files only."""
    import tensorflow as tf

    return _stage(directory, lambda encoded, seed: tf.strings.length(encoded))


def full_decode(directory, size, augment):
    """Decodes whole images, as a bound."""
    import tensorflow as tf

    return _stage(directory, lambda encoded, seed: tf.io.decode_jpeg(encoded, channels=3)[0, 0])


def _crop(encoded, seed):
    import fractions

    from resnet_rs.datasets import images

    def choose_box(shape):
        return images.random_box(
            shape, fractions.Fraction(7, 8), area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), seed=seed
        )

    return images.decode_crop(encoded, choose_box)


def crop_decode(directory, size, augment):
    """Decodes a random crop alone, as a bound."""
    return _stage(directory, lambda encoded, seed: _crop(encoded, seed)[0, 0])


def crop_resize(directory, size, augment):
    """Decodes a crop and resizes it with the paper's bicubic kernel."""
    from resnet_rs.datasets import images

    resize = images.RESIZE['bicubic_tf1']

    def work(encoded, seed):
        return images.to_uint8(resize(_crop(encoded, seed), size), rounded=False)

    return _stage(directory, work)


def model_garden(directory, size, augment):
    """Runs TF Model Garden's classification parser with the settings of its ResNet-RS files."""
    import tensorflow as tf
    from official.vision.configs import common
    from official.vision.dataloaders import classification_input

    aug_type = None
    if augment:
        randaugment = common.RandAugment(num_layers=2, magnitude=10)
        aug_type = common.Augmentation(type='randaug', randaug=randaugment)
    parser = classification_input.Parser(
        output_size=[size, size], num_classes=1001, aug_type=aug_type, dtype='bfloat16'
    )
    parse = parser.parse_fn(is_training=True)

    def work(file):
        return parse(
            {'image/encoded': tf.io.read_file(file), 'image/class/label': tf.constant(0, tf.int64)}
        )[0]

    dataset = _encoded(directory).map(work, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return iter(dataset)


def _loader(dataset, collate=None):
    import torch

    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=10**7)
    return iter(
        torch.utils.data.DataLoader(
            dataset, BATCH, sampler=sampler, num_workers=CORES, collate_fn=collate, drop_last=True
        )
    )


def timm(directory, size, augment):
    """Runs timm on PIL images in worker processes; uint8 batches, as for its GPU prefetcher."""
    import timm.data
    from timm.data.loader import fast_collate

    transform = timm.data.create_transform(
        size,
        is_training=True,
        use_prefetcher=True,
        color_jitter=None,
        interpolation='bicubic',
        auto_augment='rand-m10-n2' if augment else None,
    )
    return _loader(timm.data.ImageDataset(f'{directory}/train', transform=transform), fast_collate)


def torchvision(directory, size, augment):
    """Runs torchvision's v2 transforms on PIL images in worker processes, uint8 batches."""
    import torchvision

    torchvision.disable_beta_transforms_warning()
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    steps += [v2.RandAugment(num_ops=2, magnitude=10)] if augment else []
    transform = v2.Compose([*steps, v2.PILToTensor()])
    return _loader(torchvision.datasets.ImageFolder(f'{directory}/train', transform))


def measure(batches, seconds: float) -> tuple[float, float]:
    """Measures (images/s, CPU seconds per image) over at least `seconds`, after a warm-up."""
    next(batches)
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP_SECONDS:
        next(batches)
    count, start, used = 0, time.perf_counter(), cpu_seconds()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += BATCH
    return count / (time.perf_counter() - start), (cpu_seconds() - used) / count


def cpu_seconds() -> float:
    """Returns user and system time of this process and its living worker processes."""
    ticks = 0
    children = pathlib.Path('/proc/self/task').glob('*/children')
    for process in ['self', *(pid for path in children for pid in path.read_text().split())]:
        fields = pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf('SC_CLK_TCK')


def serve():
    """Answers requests {'name', 'directory', 'size', 'augment', 'seconds'} until the input ends."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # output of the libraries must not look like an answer
    for line in sys.stdin:
        request = json.loads(line)
        pipeline = globals()[request['name']]
        try:
            batches = pipeline(request['directory'], request['size'], request['augment'])
            rate, cpu = measure(batches, request['seconds'])
            answer = {'rate': rate, 'cpu': cpu}
            del batches
        except ImportError as error:
            answer = {'missing': str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == '__main__':
    serve()
