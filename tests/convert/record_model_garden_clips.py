"""Writes model_garden_clips.json: logits of Model Garden's 3-D ResNets in float64, and their names.

    python tests/convert/record_model_garden_clips.py

with the packages of requirements-parity.txt. Nothing of this comes from our networks. TensorFlow
has no max pool of clips in float64, so here pools of images compute it.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import tf_keras  # noqa: E402
from helpers.garden_clips import CLASSES, hash_clip, hash_variable  # noqa: E402
from helpers.goldens import write_golden  # noqa: E402
from helpers.model_garden import MaxPool3D, build_garden_clips, variables_by_key  # noqa: E402


def main() -> None:
    tf_keras.backend.set_floatx('float64')
    tf_keras.layers.MaxPool3D = MaxPool3D
    logits, keys = {}, {}
    for name in ('resnet_3d_rs_50', 'resnet_3d_50_model_garden'):
        model = build_garden_clips(name, CLASSES)
        for key, variable in variables_by_key(model).items():
            variable.assign(hash_variable(key, tuple(variable.shape)))
        logits[name] = model({'image': hash_clip()}, training=False).numpy().tolist()
        keys[name] = sorted(variables_by_key(model))
    packages = ('tensorflow-cpu', 'tf-keras', 'tf-models-official')
    content = {'logits': logits, 'keys': keys}
    write_golden('model_garden_clips.json', __file__, packages, content, indent=0)


if __name__ == '__main__':
    main()
