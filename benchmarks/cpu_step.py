"""Time and memory of a training and an inference step on a CPU, beside PyTorch's.

    python benchmarks/cpu_step.py [--rows=0,3] [--rounds=20]

Each row is one network, float32. Three programs take turns, one step each, for `--rounds` rounds:
the project's step; the same step with XLA's convolutions alone (before resnet_rs/models/
convolution.py); and timm's network in PyTorch with SGD and ModelEmaV2, where torch and timm are
installed (requirements-parity.txt). Prints the minimum of each in ms, the ratio to PyTorch's and
the compiler's bytes of temporaries as a ratio to XLA's convolutions alone. Our training step holds
everything that a run's does: normalisation of uint8 images, EMA of weights and statistics, norms,
metrics.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import pathlib
import sys
import time
import unittest.mock
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from resnet_rs.utils.platforms import use_cpu  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    batch_size: int
    image_size: int
    width_multiplier: float = 1.0
    num_classes: int = 1000

    def __str__(self):
        width = '' if self.width_multiplier == 1 else f' x {self.width_multiplier:g}'
        return f'{self.name}{width}, {self.batch_size} images of {self.image_size}'


ROWS = (
    Row('resnet_rs_50', 8, 64),
    Row('resnet_rs_50', 8, 160),
    Row('resnet_rs_14', 128, 28, 0.25, 10),
    Row('resnet_rs_14', 128, 32, 0.5, 10),
    Row('resnet_rs_14', 32, 32, 0.25, 10),  # the network and batch of make demo
)
LAYERS = {'resnet_rs_14': (1, 1, 1, 1), 'resnet_rs_50': (3, 4, 6, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rows', default=','.join(map(str, range(len(ROWS)))))
    parser.add_argument('--steps', default='train,inference')
    parser.add_argument('--rounds', type=int, default=20)
    flags = parser.parse_args()
    use_cpu()
    print('| network | step | ours | XLA | PyTorch | ours / PyTorch | memory, ours / XLA |')
    print('|---|---|---|---|---|---|---|')
    for index in flags.rows.split(','):
        for step in flags.steps.split(','):
            print(measured(ROWS[int(index)], step, flags.rounds), flush=True)


def measured(row: Row, step: str, rounds: int) -> str:
    ours, our_bytes = our_step(row, step)
    with xla_convolutions():
        xla, xla_bytes = our_step(row, step)
    runs = {'ours': ours, 'xla': xla}
    if importlib.util.find_spec('torch') and importlib.util.find_spec('timm'):
        runs['torch'] = torch_step(row, step)
    best = dict.fromkeys(runs, float('inf'))
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            best[name] = min(best[name], 1000 * (time.perf_counter() - begin))
    peer = ('not installed', '')
    if 'torch' in best:
        peer = (f'{best["torch"]:.0f}', f'{best["ours"] / best["torch"]:.2f}')
    return (
        f'| {row} | {step} | {best["ours"]:.0f} | {best["xla"]:.0f} | {peer[0]} | {peer[1]} '
        f'| {our_bytes / xla_bytes:.2f} |'
    )


def our_step(row: Row, step: str):
    """Returns a function that runs one step and waits for it, and the program's bytes."""
    import jax

    from resnet_rs import latency
    from resnet_rs.config import default_config

    config = default_config()
    config.model.name = row.name
    config.model.width_multiplier = row.width_multiplier
    config.model.num_classes = row.num_classes
    config.model.dtype = 'float32'
    config.data.image_size = row.image_size
    run, _, compiled = latency.prepare(config, step, row.batch_size)
    memory = compiled.memory_analysis()
    return lambda: jax.block_until_ready(run()), memory.temp_size_in_bytes


@contextlib.contextmanager
def xla_convolutions():
    """Makes networks that are built in this context use XLA's convolutions alone."""
    import jax

    from resnet_rs.models import fused_tail, residual

    with contextlib.ExitStack() as patches:
        for module in (fused_tail, residual):
            patches.enter_context(
                unittest.mock.patch.object(
                    module, 'conv_general_dilated', jax.lax.conv_general_dilated
                )
            )
        yield


def torch_step(row: Row, step: str):
    """Returns a function that runs one step of timm's network in PyTorch."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import timm
        from timm.utils import ModelEmaV2

    network = timm.create_model(
        'resnetrs50',
        layers=LAYERS[row.name],
        channels=tuple(int(width * row.width_multiplier) for width in (64, 128, 256, 512)),
        stem_width=int(32 * row.width_multiplier),
        num_classes=row.num_classes,
    )
    images = torch.randn(row.batch_size, 3, row.image_size, row.image_size)
    labels = torch.randint(row.num_classes, (row.batch_size,))
    if step == 'inference':
        network.eval()

        def infer():
            with torch.inference_mode():
                network(images)

        return infer
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=4e-5)
    average = ModelEmaV2(network, 0.9999)

    def train():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels, label_smoothing=0.1).backward()
        optimizer.step()
        average.update(network)

    return train


if __name__ == '__main__':
    main()
