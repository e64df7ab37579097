"""Writes a golden file: the ten steps of timm or Model Garden in float64, in a few numbers.

    python tests/parity/record_training_golden.py training_golden.json
    python tests/parity/record_training_golden.py resnest_training_golden.json
    python tests/parity/record_training_golden.py efficientnet_training_golden.json
    python tests/parity/record_training_golden.py resnet_3d_training_golden.json

with the packages of requirements-parity.txt. Nothing of this comes from our training step.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from helpers.goldens import write_golden  # noqa: E402
from helpers.ten_steps import GOLDEN_RUNS, KINDS, fingerprint, l2_norm  # noqa: E402


def reference_steps(run):
    """The names of the packages of a reference, and its function that yields the steps."""
    if run.frames:
        from helpers.garden_steps import garden_steps

        return ('tensorflow-cpu', 'tf-keras', 'tf-models-official'), garden_steps
    from helpers.torch_steps import torch_steps

    return ('torch', 'timm'), torch_steps


def main(file_name: str) -> None:
    packages, reference = reference_steps(GOLDEN_RUNS[file_name])
    steps = []
    for result in reference(GOLDEN_RUNS[file_name], 'float64'):
        norms = {kind: l2_norm(*getattr(result, kind).values()) for kind in KINDS}
        steps.append({'loss': result.loss, 'learning_rate': result.learning_rate} | norms)
    content = {
        'steps': steps,
        'last': {kind: fingerprint(getattr(result, kind)) for kind in KINDS},
    }
    short = json.loads(json.dumps(content), parse_float=lambda text: float(f'{float(text):.13g}'))
    write_golden(file_name, __file__, packages, short, indent=0)


if __name__ == '__main__':
    main(sys.argv[1])
