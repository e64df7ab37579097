"""The name of a run's data, for tables and pages."""

import os

import ml_collections


def dataset_name(config: ml_collections.ConfigDict) -> str:
    """Returns the name of a tfds set, or that of the folder which holds the data.

    Only a tfds set has data.name; for other sources it keeps its default.
    """
    data = config.data
    return data.name if data.source == 'tfds' else os.path.basename(data.data_dir.rstrip('/'))
