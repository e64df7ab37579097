"""Prints the likeliest classes of images, by a SavedModel export.

python examples/with_tensorflow.py FOLDER IMAGE...      needs tensorflow
"""

import pathlib
import sys

import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
files = sys.argv[2:]
encoded = tf.constant([pathlib.Path(file).read_bytes() for file in files])
found = model.signatures['classify'](images=encoded)
for file, names, chances in zip(files, found['names'], found['probabilities'], strict=True):
    print(f'{file}: {names[0].numpy().decode()} {chances[0].numpy():.2%}')
