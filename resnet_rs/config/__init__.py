"""The settings of a run: their table, relations, files and flags."""

from resnet_rs.config.table import *  # noqa: F403
