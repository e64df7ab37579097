"""The PyTorch half of configs/sweeps/fashion_torch.py: the same recipe on timm's network.

    python benchmarks/torch_study.py --workdir=DIR

DIR is the directory of the sweep, and $TFDS_DATA_DIR holds its data. A seed of it trains in
DIR/torch-seedN: the same batches as the run of this code with that seed, SGD with coupled weight
decay, and ModelEmaV2 with the EMA's decay. The same command resumes an interrupted one after its
last checkpoint. result.json has the top-1 of the EMA weights and which test images are right.
Needs torch and timm (requirements-parity.txt).
"""

import argparse
import json
import math
import os
import pathlib
import sys
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from resnet_rs.utils.files import replacing  # noqa: E402
from resnet_rs.utils.platforms import import_tensorflow, use_cpu  # noqa: E402

CHECKPOINT_STEPS = 500


def main() -> None:
    """Trains every seed that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--workdir', required=True)
    flags = parser.parse_args()
    from configs.sweeps import fashion_torch

    for name, config in fashion_torch.get_sweep():
        directory = pathlib.Path(flags.workdir) / name.replace('ours', 'torch')
        train(config, directory)


def create_network(config):
    """Returns timm's ResNet-RS of 14 layers with the width of `config`, in training mode."""
    import timm
    import torch

    torch.manual_seed(config.seed)
    width = config.model.width_multiplier
    network = timm.create_model(
        'resnetrs50',
        layers=(1, 1, 1, 1),
        channels=tuple(int(width * channels) for channels in (64, 128, 256, 512)),
        stem_width=int(32 * width),
        num_classes=config.model.num_classes,
    )
    torch.nn.init.zeros_(network.fc.bias)  # as here
    return network.train()


def create_optimizer(config, network):
    """Returns SGD that decays everything but batch norm, as here."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    exempt = {id(parameter) for norm in norms for parameter in norm.parameters()}
    groups = [
        {
            'params': [p for p in network.parameters() if (id(p) in exempt) == is_norm],
            'weight_decay': 0.0 if is_norm else config.optimizer.weight_decay,
        }
        for is_norm in (False, True)
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=config.optimizer.momentum)


def learning_rate(config, step: int, total_steps: int, warmup: int) -> float:
    """Returns the cosine, which counts from the first step, after a linear rise to it."""
    peak = config.optimizer.learning_rate * config.batch_size / 256

    def cosine(step):
        return peak * (1 + math.cos(math.pi * step / total_steps)) / 2

    return cosine(step) if step >= warmup else cosine(warmup) * step / warmup


def train(config, directory: pathlib.Path) -> None:
    """Trains in `directory` until result.json is there."""
    use_cpu()
    import_tensorflow()
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
        import timm

    import input_pipeline
    from resnet_rs.config.durations import to_steps
    from resnet_rs.utils.environment import git_commit

    if (directory / 'result.json').exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    info = input_pipeline.dataset_info(config)
    lengths = dict(
        batch_size=config.batch_size,
        examples_per_epoch=info.split(config.data.train_split).num_examples,
    )
    total_steps = to_steps(config.duration, **lengths)
    warmup = to_steps(config.optimizer.warmup, **lengths)
    network = create_network(config)
    optimizer, ema = create_optimizer(config, network), timm.utils.ModelEmaV2(network)
    parts = {'network': network, 'optimizer': optimizer, 'ema': ema.module}
    first, seconds, path = 0, 0.0, directory / 'state.pt'
    if path.exists():
        stored = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        first, seconds = stored['step'], stored['seconds']
    started = time.monotonic() - seconds
    batches = input_pipeline.train_batches(config, first_step=first)
    for step in range(first, total_steps):
        batch = next(batches)
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(config, step, total_steps, warmup)
        loss = torch.nn.functional.cross_entropy(
            network(normalised(config, batch['image'])),
            torch.from_numpy(batch['label'].copy()).long(),
            label_smoothing=config.optimizer.label_smoothing,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.decay = min(config.ema.decay, (2 + step) / (11 + step))
        ema.update(network)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f'the loss of step {step + 1} is {loss.item()}')
        if (step + 1) % CHECKPOINT_STEPS == 0:
            stored = {name: part.state_dict() for name, part in parts.items()}
            counts = {'step': step + 1, 'seconds': time.monotonic() - started}
            with replacing(path) as partial:
                torch.save(stored | counts, partial)
            print(f'{directory.name}: step {step + 1} of {total_steps}, loss {loss.item():.4f}')
    right = evaluate(config, ema.module)
    result = {
        'top1': sum(right) / len(right),
        'right': right,
        'seconds': time.monotonic() - started,
        'commit': git_commit(),
        'torch': torch.__version__,
        'timm': timm.__version__,
    }
    with replacing(directory / 'result.json') as partial:
        partial.write_text(json.dumps(result) + '\n')
    path.unlink(missing_ok=True)
    print(f'{directory.name}: top-1 {100 * result["top1"]:.2f} %')


def evaluate(config, network) -> list[bool]:
    """Returns which images of the evaluation split `network` classifies correctly, in order."""
    import torch

    import input_pipeline

    right = []
    network.eval()
    with torch.no_grad():
        for batch in input_pipeline.eval_batches(config):
            predictions = network(normalised(config, batch['image'])).argmax(1).numpy()
            right += (predictions == batch['label'])[batch['mask'] > 0].tolist()
    return right


def normalised(config, images):
    """Returns uint8 images [n, S, S, 3] as a float32 tensor [n, 3, S, S]."""
    import numpy as np
    import torch

    mean, std = (np.array(each, np.float32) for each in (config.data.mean_rgb, config.data.std_rgb))
    return torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy())


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', str(len(os.sched_getaffinity(0))))
    main()
