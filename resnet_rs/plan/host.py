"""The input that hosts must deliver: images per second, and the vCPUs that this takes."""

import dataclasses
import math

import ml_collections

from resnet_rs.utils.errors import UserError

# CPU milliseconds per training image of photographs (JPEGs of 500 x 375 pixels and 103 kB), by
# image size, without and with RandAugment: the rows "ours" of the table in docs/input_pipeline.md.
MEASURED_MILLISECONDS = {160: (1.3, 1.55), 224: (1.54, 1.83), 320: (1.96, 2.47)}

# vCPUs of a TPU VM, by generation and the VM's chips. v5e: docs.cloud.google.com/tpu/docs/v5e;
# v5p: docs.cloud.google.com/tpu/docs/v5p-training; v6e and TPU7x with four chips: the comparison in
# docs.cloud.google.com/tpu/docs/tpu7x. We found no page of Google's with those of v2, v3 and v4,
# nor of a v6e VM with one chip; 96 is what users report of a v3-8.
VCPUS = {
    'v3': {4: 96},
    'v5e': {1: 24, 4: 112, 8: 224},
    'v5p': {4: 208},
    'v6e': {4: 180},
    'tpu7x': {4: 224},
}


@dataclasses.dataclass(frozen=True)
class InputCost:
    """The input pipeline's CPU milliseconds for a training image, and where the figure is from."""

    milliseconds: float
    source: str


def input_cost(config: ml_collections.ConfigDict, own: float | None = None) -> InputCost:
    """Returns the cost of an image of `config`, or `own` where it is given.

    Without `own` it is that of the measured row with the next larger image size, or the largest
    one, with RandAugment for every augmentation; a clip costs as much as its frames. Raises
    UserError for a cost that is not positive.
    """
    if own is not None:
        if not (own > 0 and math.isfinite(own)):
            raise UserError(f'--input_ms_per_image={own:g}: give CPU milliseconds above 0')
        return InputCost(own, '--input_ms_per_image')
    larger = [size for size in MEASURED_MILLISECONDS if size >= config.data.image_size]
    size = min(larger, default=max(MEASURED_MILLISECONDS))
    augmented = config.data.augment != 'none'
    source = f'docs/input_pipeline.md, {size} pixels {"with" if augmented else "without"}'
    frames = config.data.frames
    of_clips = f', for each of {frames} frames' if frames > 1 else ''
    return InputCost(
        MEASURED_MILLISECONDS[size][augmented] * max(frames, 1),
        f'{source} RandAugment{of_clips}',
    )


def host_record(topology: dict, step: dict | None, cost: InputCost) -> dict | None:
    """Returns what each host must deliver in training; None where there is no training step.

    topology, step: report.topology_record and report.step_record of the training step.

    images_per_second: the images of a host; None if the time of the step is unknown.
    vcpus_needed: images_per_second at `cost`, with nothing else running.
    vcpus: those of one TPU VM; None if unknown. input_images_per_second: what they deliver.
    bound_by_input: whether more vCPUs are needed than there are; None where one is not known.
    slowdown: how many times longer than estimated the input makes a step; 1 where it keeps up.
    """
    if not step:
        return None
    seconds = cost.milliseconds / 1e3
    vcpus = VCPUS.get(topology['name'].partition(':')[0], {}).get(topology['chips_per_host'])
    rate = step['images_per_second'] and step['images_per_second'] / topology['hosts']
    needed = rate and rate * seconds
    known = bool(needed and vcpus)
    return {
        'images_per_second': rate,
        'input_ms_per_image': cost.milliseconds,
        'input_source': cost.source,
        'vcpus_needed': needed,
        'vcpus': vcpus,
        'input_images_per_second': vcpus / seconds if vcpus else None,
        'bound_by_input': needed > vcpus if known else None,
        'slowdown': max(1.0, needed / vcpus) if known else None,
    }
