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
size = about['preprocessing']['image_size']
session = onnxruntime.InferenceSession(folder / 'model.onnx')
images = [Image.open(name).convert('RGB') for name in sys.argv[2:]]
pixels = np.stack([np.asarray(ImageOps.fit(image, (size, size))) for image in images])
(logits,) = session.run(['logits'], {'images': pixels})
for name, number in zip(sys.argv[2:], logits.argmax(-1), strict=True):
    print(f'{name}: {about["class_names"][number]}')
