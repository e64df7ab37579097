"""The same ten steps in PyTorch, on timm's network; imported only where both are installed."""

import math
import warnings

import torch

from helpers.hash_filled import hash_tensor
from helpers.ten_steps import (
    DECAY_FACTOR,
    DECAY_STEPS,
    EMA_DECAY,
    LABEL_SMOOTHING,
    MOMENTUM,
    RMSPROP_DECAY,
    RMSPROP_EPSILON,
    STEPS,
    WARMUP_STEPS,
    WEIGHT_DECAY,
    Run,
    StepResult,
    batches,
    initial_scale,
)

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of torchvision, about image codecs it cannot load
    import timm
    import timm.optim

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


# Blocks per stage of timm's network; the rest of the setting is that of its resnetrs50.
LAYERS = {'resnet_rs_14': (1, 1, 1, 1), 'resnet_rs_50': (3, 4, 6, 3)}


def timm_network(run: Run) -> torch.nn.Module:
    if run.name.startswith('efficientnet'):
        return timm.create_model(f'tf_{run.name}', num_classes=run.num_classes)
    return timm.create_model(
        'resnetrs50',
        layers=LAYERS[run.name],
        channels=tuple(int(width * run.width_multiplier) for width in (64, 128, 256, 512)),
        stem_width=int(32 * run.width_multiplier),
        num_classes=run.num_classes,
    )


def learning_rate(run: Run, step: int) -> float:
    if run.optimizer == 'rmsprop':
        return run.peak_learning_rate * DECAY_FACTOR ** (step // DECAY_STEPS)

    def cosine(step):
        return run.peak_learning_rate * (1 + math.cos(math.pi * step / STEPS)) / 2

    return cosine(step) if step >= WARMUP_STEPS else cosine(WARMUP_STEPS) * step / WARMUP_STEPS


def torch_steps(run: Run, dtype: str):
    """Yields a StepResult per step; `dtype` is 'float32' or 'float64'."""
    dtype = getattr(torch, dtype)
    network = timm_network(run).to(dtype).train()
    network.load_state_dict(
        {
            key: tensor
            if key.endswith('num_batches_tracked')
            else torch.from_numpy(initial_scale(key) * hash_tensor(key, tuple(tensor.shape)))
            for key, tensor in network.state_dict().items()
        }
    )
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms  # timm's BatchNormAct2d is one
    for norm in norms:
        norm.momentum = 1.0  # torch weighs the new batch with it
    undecayed = {id(parameter) for norm in norms for parameter in norm.parameters()}
    groups = [
        {
            'params': [p for p in network.parameters() if (id(p) in undecayed) == exempt],
            'weight_decay': 0.0 if exempt else WEIGHT_DECAY,
        }
        for exempt in (False, True)
    ]
    if run.optimizer == 'rmsprop':
        optimizer = timm.optim.RMSpropTF(
            groups, lr=1.0, alpha=RMSPROP_DECAY, eps=RMSPROP_EPSILON, momentum=MOMENTUM
        )
    else:
        optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM)
    ema = timm.utils.ModelEmaV2(network)
    mean, std = (torch.tensor(values, dtype=dtype) for values in (MEAN, STD))
    for step, batch in enumerate(batches(run)):
        images = (torch.from_numpy(batch['image']).to(dtype) / 255 - mean) / std
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(run, step)
        loss = torch.nn.functional.cross_entropy(
            network(images.permute(0, 3, 1, 2).contiguous()),
            torch.from_numpy(batch['label']).long(),
            label_smoothing=LABEL_SMOOTHING,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates = step + 1
        ema.decay = min(EMA_DECAY, (1 + updates) / (10 + updates))
        ema.update(network)
        yield StepResult(
            loss=loss.item(),
            learning_rate=learning_rate(run, step),
            gradient={key: p.grad.numpy().copy() for key, p in network.named_parameters()},
            weights={key: p.detach().numpy().copy() for key, p in network.named_parameters()},
            statistics=_floats(network.named_buffers()),
            ema=_floats(ema.module.state_dict().items()),
        )


def _floats(named_tensors):
    return {
        key: tensor.numpy().copy() for key, tensor in named_tensors if tensor.is_floating_point()
    }
