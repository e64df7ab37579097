"""The settings of a run: their table, rules, relations, files and flags.

table.py holds every setting with its default, rule and meaning, as setting.py defines them;
relations.py says which values go together; trainable.py has the notation of config.trainable;
mixture.py says what a batch with pseudo-labels consists of; validation.py checks a configuration
against all of them; evaluations.py gives the configuration of each of a run's evaluations;
dataset.py names its data; stored.py reads and writes a run's config.json; command_line.py reads
--config and its settings; durations.py turns '350 epochs' into steps.
"""

from resnet_rs.config.augmentations import AUGMENTATIONS, RANDAUGMENT_OPERATIONS
from resnet_rs.config.relations import DEFAULT_EVALUATION
from resnet_rs.config.setting import Change, Setting
from resnet_rs.config.table import (
    EVALUATION_SETTINGS,
    SETTINGS,
    default_config,
    eval_image_size,
    experiment_settings,
    flatten,
    is_of_evaluation,
    may_change_on_resume,
    may_differ_between_hosts,
    setting_of,
)

__all__ = [
    'AUGMENTATIONS',
    'DEFAULT_EVALUATION',
    'EVALUATION_SETTINGS',
    'RANDAUGMENT_OPERATIONS',
    'SETTINGS',
    'Change',
    'Setting',
    'default_config',
    'eval_image_size',
    'experiment_settings',
    'flatten',
    'is_of_evaluation',
    'may_change_on_resume',
    'may_differ_between_hosts',
    'setting_of',
]
