"""Prints the likeliest class of images, by an ONNX export.

python examples/with_onnxruntime.py FOLDER IMAGE...      needs onnxruntime and pillow
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

folder = pathlib.Path(sys.argv[1])
about = json.loads((folder / 'export.json').read_text())
size, part = (about['preprocessing'][name] for name in ('image_size', 'crop_fraction'))
session = onnxruntime.InferenceSession(folder / 'model.onnx')
images = [Image.open(name).convert('RGB') for name in sys.argv[2:]]
if part:  # else the whole image is squashed
    images = [ImageOps.fit(image, (size, size), bleed=(1 - part) / 2) for image in images]
pixels = np.stack([np.asarray(image.resize((size, size))) for image in images])
(logits,) = session.run(['logits'], {'images': pixels})
for name, number in zip(sys.argv[2:], logits.argmax(-1), strict=True):
    print(f'{name}: {about["class_names"][number]}')
