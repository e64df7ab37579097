"""Opens eight training inputs and ends while they read; argv[1] holds their configuration."""

import sys

import input_pipeline
from resnet_rs.config.stored import stored_config_of

config = stored_config_of(sys.argv[1])
readers = [input_pipeline.train_batches(config) for _ in range(8)]
for batches in readers * 2:
    next(batches)
