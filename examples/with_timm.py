"""Prints the likeliest class of images, by a folder of resnet_rs.publish.

python examples/with_timm.py FOLDER IMAGE...      needs torch, timm and pillow
"""

import sys

import timm
import torch
from PIL import Image

network = timm.create_model(f'local-dir:{sys.argv[1]}', pretrained=True).eval()
settings = timm.data.resolve_model_data_config(network)
transform = timm.data.create_transform(**settings, is_training=False)
images = [transform(Image.open(name).convert('RGB')) for name in sys.argv[2:]]
with torch.inference_mode():
    logits = network(torch.stack(images))
names = network.pretrained_cfg['label_names']
for name, number in zip(sys.argv[2:], logits.argmax(-1).tolist(), strict=True):
    print(f'{name}: {names[number]}')
