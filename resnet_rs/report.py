"""The pictures a finished run leaves in its work directory, and the table they come from."""

import io
import os

import ml_collections
import numpy as np
from etils import epath

from resnet_rs.evaluation import Evaluation


def write(workdir, config, evaluation, class_names):
    pass
