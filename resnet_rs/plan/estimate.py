"""Estimates of time for compiled steps: seconds, images per second, days and chip-hours."""

import dataclasses
import math

import ml_collections

from resnet_rs.config import eval_image_size
from resnet_rs.config.clips import clip_shape, example_noun
from resnet_rs.config.durations import to_steps
from resnet_rs.config.evaluations import evaluation_names
from resnet_rs.models.cost import count_cost
from resnet_rs.plan.program import CompiledStep
from resnet_rs.plan.topology import Topology
from resnet_rs.training.networks import model_of

EXCLUDED = ('input', 'checkpoints', 'start-up', 'logging', 'waiting for other hosts')


@dataclasses.dataclass(frozen=True)
class StepTime:
    """The estimate of a step; its seconds are None if the clock of the generation is unknown.

    compute_seconds: the compiler's cycles divided by the clock.
    collective_seconds: a lower bound from the bytes of collectives and the full bandwidth of the
      links; 0 without collectives, None if the bandwidth is unknown.
    model_flops: FLOPs of convolutions and dense layers for the batch, on one device; a training
      step counts three times the forward pass.
    noun: what one example is: 'image', 'clip', or 'video' if a step sees several views of it.
    """

    images: int
    compute_seconds: float | None
    collective_seconds: float | None
    model_flops: float
    peak_flops: float
    noun: str = 'image'

    @property
    def seconds(self) -> float | None:
        if self.compute_seconds is None:
            return None
        return self.compute_seconds + (self.collective_seconds or 0.0)

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.seconds if self.seconds else None

    @property
    def utilisation(self) -> float | None:
        """The model FLOPs per second divided by the peak of bfloat16."""
        return self.model_flops / self.seconds / self.peak_flops if self.seconds else None


def step_time(
    config: ml_collections.ConfigDict, topology: Topology, step: CompiledStep
) -> StepTime:
    """Returns the estimate of a step that compile_step compiled for `config` and `topology`."""
    hardware, training = topology.hardware, step.which == 'train'
    pixels = config.data.image_size if training else eval_image_size(config)
    clip = clip_shape(config, 'train')  # (frames,), or () for images
    views = math.prod(clip_shape(config, 'train' if training else 'eval')) // math.prod(clip)
    cost = count_cost(model_of(config, batch_norm_group_size=None), pixels, *clip)
    images = config.batch_size if training else config.eval.batch_size
    passes = {'train': 3, 'eval': 2, 'inference': 1}[step.which]  # eval: two sets of weights
    clock = hardware.clock_hz
    return StepTime(
        images=images,
        compute_seconds=step.cycles / clock if clock else None,
        collective_seconds=collective_seconds(step, topology),
        model_flops=2 * passes * views * cost.multiply_adds * images / len(topology.devices),
        peak_flops=hardware.peak_flops,
        noun=example_noun(config, 'train' if training else 'eval'),
    )


def collective_seconds(step: CompiledStep, topology: Topology) -> float | None:
    """Returns the time of the collectives if they use all links of a chip all the time."""
    collectives = step.program.collectives
    bandwidth = topology.hardware.link_bytes_per_second
    if not collectives:
        return 0.0
    if bandwidth is None:
        return None
    return (
        sum(
            sent_bytes(each.kind, each.bytes, each.group_size) * each.executions
            for each in collectives
        )
        / bandwidth
    )


def sent_bytes(kind: str, size: int, group: int) -> float:
    """Returns the bytes that a device of a ring sends; `size` is the bytes of the result."""
    if group <= 1:
        return 0.0
    others = (group - 1) / group
    shares = {
        'all-reduce': 2 * others,
        'all-gather': others,
        'reduce-scatter': group - 1,
        'all-to-all': others,
    }
    return size * shares.get(kind, 1.0)


@dataclasses.dataclass(frozen=True)
class RunTime:
    """The time of a run for its training steps and the default evaluation.

    evaluations: those in the time; 0 if the time of the evaluation step is unknown.
    without: what is not in the time.
    """

    steps: int
    evaluations: int
    train_seconds: float
    eval_seconds: float
    chips: int
    without: tuple[str, ...] = EXCLUDED

    @property
    def days(self) -> float:
        return (self.train_seconds + self.eval_seconds) / 86400

    @property
    def chip_hours(self) -> float:
        return (self.train_seconds + self.eval_seconds) / 3600 * self.chips


def run_time(
    config: ml_collections.ConfigDict,
    topology: Topology,
    examples: int,
    eval_examples: int,
    train: StepTime,
    evaluate: StepTime | None,
) -> RunTime | None:
    """Returns the time of the run of `config`, None if the seconds of a step are unknown."""
    if train.seconds is None:
        return None
    lengths = dict(batch_size=config.batch_size, examples_per_epoch=examples)
    steps = to_steps(config.duration, **lengths)
    every = max(to_steps(config.eval.every, **lengths), 1)
    evaluations = math.ceil(steps / every) if evaluate else 0
    batches = math.ceil(eval_examples / config.eval.batch_size)
    return RunTime(
        steps=steps,
        evaluations=evaluations,
        train_seconds=steps * train.seconds,
        eval_seconds=evaluations * batches * evaluate.seconds if evaluate else 0.0,
        chips=topology.chips,
        without=(
            *EXCLUDED,
            *(() if evaluate else ('evaluations',)),
            *(f'evals.{name}' for name in evaluation_names(config)[1:]),
        ),
    )
