"""Prints the likeliest class of images, by a StableHLO export without --separate_weights.

python examples/with_jax.py FOLDER IMAGE...      needs jax and pillow
"""

import json
import pathlib
import sys

import jax
import numpy as np
from PIL import Image, ImageOps

folder = pathlib.Path(sys.argv[1])
about = json.loads((folder / 'export.json').read_text())
size, part = (about['preprocessing'][name] for name in ('image_size', 'crop_fraction'))
program = jax.export.deserialize(bytearray((folder / 'model.stablehlo').read_bytes()))
images = [Image.open(name).convert('RGB') for name in sys.argv[2:]]
if part:  # else the whole image is squashed
    images = [ImageOps.fit(image, (size, size), bleed=(1 - part) / 2) for image in images]
pixels = np.stack([np.asarray(image.resize((size, size))) for image in images])
logits = np.asarray(jax.jit(program.call)(pixels))
for name, number in zip(sys.argv[2:], logits.argmax(-1), strict=True):
    print(f'{name}: {about["class_names"][number]}')
