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
size = about['preprocessing']['image_size']
program = jax.export.deserialize(bytearray((folder / 'model.stablehlo').read_bytes()))
images = [Image.open(name).convert('RGB') for name in sys.argv[2:]]
pixels = np.stack([np.asarray(ImageOps.fit(image, (size, size))) for image in images])
logits = np.asarray(jax.jit(program.call)(pixels))
for name, number in zip(sys.argv[2:], logits.argmax(-1), strict=True):
    print(f'{name}: {about["class_names"][number]}')
