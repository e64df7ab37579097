"""Writes model_garden_logits.json: logits of Model Garden's ResNet-RS-50 in float64.

    python tests/convert/record_model_garden_logits.py

with the packages of requirements-parity.txt. The weights are those of timm's names (hash_filled.py)
under Model Garden's. Nothing of this comes from our networks.
"""

import importlib.metadata
import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
from helpers.foreign_weights import garden_tensors, timm_state, write_checkpoint  # noqa: E402
from helpers.hash_filled import hash_images  # noqa: E402
from helpers.model_garden import build_garden  # noqa: E402

SIZE = 64


def main() -> None:
    model = build_garden(50)
    with tempfile.TemporaryDirectory() as directory:
        prefix = pathlib.Path(directory) / 'ckpt-1'
        write_checkpoint(prefix, garden_tensors(timm_state('resnetrs50')))
        checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
        checkpoint.read(str(prefix)).assert_existing_objects_matched()
    tf_keras.backend.set_floatx('float64')
    exact = build_garden(50)
    exact.set_weights([weight.astype('float64') for weight in model.get_weights()])
    logits = exact(hash_images(SIZE), training=False).numpy()[0, 1:]
    recorded = {
        'first5': logits[:5].tolist(),
        'mean': float(logits.mean()),
        'std': float(logits.std()),
        'argmax': int(logits.argmax()),
    }
    packages = ('tensorflow-cpu', 'tf-keras', 'tf-models-official')
    golden = {
        'recorded_from': ', '.join(
            f'{name} {importlib.metadata.version(name)}' for name in packages
        ),
        'logits': {str(SIZE): recorded},
    }
    (HERE / 'model_garden_logits.json').write_text(json.dumps(golden, indent=1) + '\n')


if __name__ == '__main__':
    main()
