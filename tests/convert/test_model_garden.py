"""TF Model Garden's ResNet-RS: converted, the logits that its own code computed."""

import json
import pathlib

import numpy as np
from helpers.foreign_weights import (
    garden_tensors,
    timm_state,
    write_checkpoint,
)
from helpers.framework_parity import our_logits
from helpers.hash_filled import hash_images

from resnet_rs.convert.__main__ import main

GOLDEN = pathlib.Path(__file__).with_name('model_garden_logits.json')


def test_model_garden_logits(tmp_path):
    """Logits recorded in float64 from tf-models-official 2.20 with the same hash-filled weights."""
    write_checkpoint(tmp_path / 'rs' / 'ckpt-1', garden_tensors(timm_state('resnetrs50')))
    command = ['--source=model_garden', str(tmp_path / 'rs'), f'--output={tmp_path / "out"}']
    main(command)
    for size, reference in json.loads(GOLDEN.read_text())['logits'].items():
        logits = our_logits(tmp_path / 'out', hash_images(int(size)))[0]
        # Float64, because the stride-1 pool of the first shortcut changes these by 3e-6 only.
        tolerance = 1e-9 * reference['std']
        assert np.abs(logits[:5] - reference['first5']).max() <= tolerance
        assert abs(logits.std() - reference['std']) <= tolerance
        assert logits.argmax() == reference['argmax']
