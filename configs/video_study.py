"""The additive study of the paper on Kinetics-400 (section 7.5): configs/video_study.py:ROW.

    python main.py --config=configs/video_study.py:baseline --workdir=DIR \\
      --config.data.source=sequence_examples --config.data.data_dir=DATA

The rows stand in the order of the study; each adds one change to the one before. Published top-1
of thirty views; those with a question mark were not read in the paper itself:

    baseline          73.4     stochastic_depth  76.1?    scale_jittering  77.4
    dropout           74.4?    ema               76.1?    squeeze_excite   77.9?
    label_smoothing   74.9?    weight_decay      76.3?    resnet_d         78.2
                               epochs            76.4?

Ours: not run. The paper does not print the baseline's settings: here it has 200 epochs, a weight
decay of 1e-4 and crops of 49 to 100 % of the area, as Model Garden's R3D-50; the first two are
assumptions, and so is the momentum of batch norm in the rows without an EMA. The rows have no
self-gates, of which the paper says nothing; Model Garden's network of 78.2 has them
(configs/resnet_3d_rs.py, which also says what memory and batch the thirty views take).
"""

from ml_collections import ConfigDict

from configs.resnet_3d_rs import kinetics
from resnet_rs.utils.errors import UserError

BASELINE = {
    'duration': '200 epochs',
    'model.dropout_rate': 0.0,
    'model.stochastic_depth_rate': 0.0,
    'data.crop_area': (0.49, 1.0),
    'optimizer.label_smoothing': 0.0,
    'optimizer.weight_decay': 1e-4,
    'ema.decay': 0.0,
    'model.batch_norm_momentum': 0.9,
}
ROWS = {
    'baseline': {},
    'dropout': {'model.dropout_rate': 0.5},
    'label_smoothing': {'optimizer.label_smoothing': 0.1},
    'stochastic_depth': {'model.stochastic_depth_rate': 0.1},
    'ema': {'ema.decay': 0.9999, 'model.batch_norm_momentum': 0.0},
    'weight_decay': {'optimizer.weight_decay': 4e-5},
    'epochs': {'duration': '350 epochs'},
    'scale_jittering': {'data.crop_area': (0.08, 1.0)},
    'squeeze_excite': {'model.name': 'resnet_3d_50_se'},
    'resnet_d': {'model.name': 'resnet_3d_rs_50_ungated'},
}


def get_config(row: str = 'baseline') -> ConfigDict:
    """Returns the settings of a row: those of all rows up to it; locked."""
    if row not in ROWS:
        raise UserError(f'configs/video_study.py has no row {row!r}; it has {", ".join(ROWS)}')
    config = kinetics('resnet_3d_50')
    config.update_from_flattened_dict(BASELINE)
    for name, changes in ROWS.items():
        config.update_from_flattened_dict(changes)
        if name == row:
            break
    return config.lock()
