"""Writes model_garden_logits.json: logits of Model Garden's ResNet-RS-50 in float64.

    python tests/convert/record_model_garden_logits.py

with the packages of requirements-parity.txt. The weights are those of timm's names (hash_filled.py)
under Model Garden's. Nothing of this comes from our networks.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import tf_keras  # noqa: E402
from helpers.foreign_weights import garden_tensors, timm_state  # noqa: E402
from helpers.goldens import write_golden  # noqa: E402
from helpers.hash_filled import hash_images  # noqa: E402
from helpers.model_garden import SUFFIX, build_garden, variables_by_key  # noqa: E402

SIZE = 64


def main() -> None:
    tf_keras.backend.set_floatx('float64')
    model = build_garden(50)
    tensors = garden_tensors(timm_state('resnetrs50'))
    for key, variable in variables_by_key(model).items():
        variable.assign(tensors.pop(key + SUFFIX))
    assert not tensors
    logits = model(hash_images(SIZE), training=False).numpy()[0, 1:]
    recorded = {
        'first5': logits[:5].tolist(),
        'mean': float(logits.mean()),
        'std': float(logits.std()),
        'argmax': int(logits.argmax()),
    }
    packages = ('tensorflow-cpu', 'tf-keras', 'tf-models-official')
    content = {'logits': {str(SIZE): recorded}}
    write_golden('model_garden_logits.json', __file__, packages, content)


if __name__ == '__main__':
    main()
