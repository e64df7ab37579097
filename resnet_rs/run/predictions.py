"""Reading of predictions.npz, the results of a finished run for every evaluation image."""

import os
import zipfile

import numpy as np
from etils import epath

from resnet_rs.run.run_log import PREDICTIONS_FILE
from resnet_rs.utils.errors import UserError

# Columns of predictions.npz that every run has. For five classes or fewer it has no top5.
COLUMNS = (
    'index',
    'label',
    *(f'{weights}_{name}' for weights in ('raw', 'ema') for name in ('top1', 'loss')),
)
OPTIONAL_COLUMNS = ('raw_top5', 'ema_top5')
MOST_COLUMN_BYTES = 2**27  # 16 million examples
AGAIN = 'move the file away and give the command of the run again'


def read_predictions(run: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the columns COLUMNS, and those of OPTIONAL_COLUMNS that are there.

    Raises UserError for an unfinished run and for a damaged file.
    """
    path = epath.Path(run) / PREDICTIONS_FILE
    if not path.exists():
        raise UserError(f'{path} is missing: a run writes it at its end; finish the run first')
    try:
        with path.open('rb') as file, zipfile.ZipFile(file) as archive:
            there = [name for name in OPTIONAL_COLUMNS if f'{name}.npy' in archive.namelist()]
            table = {name: _read_column(archive, f'{name}.npy') for name in (*COLUMNS, *there)}
    # The archive, its compression and NumPy's headers raise different errors.
    except Exception as error:
        raise UserError(f'{path} is damaged ({error}); {AGAIN}') from error
    for name, column in table.items():
        kind = 'b' if 'top' in name else 'f' if 'loss' in name else 'i'
        if column.dtype.kind != kind or column.shape != (len(table['index']),) or not column.size:
            raise UserError(
                f'{path} is damaged ({name} is {column.dtype}{list(column.shape)}); {AGAIN}'
            )
    return table


def _read_column(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array of an .npz file; raises ValueError if it is larger than any split."""
    if archive.getinfo(name).file_size > MOST_COLUMN_BYTES:
        raise ValueError(f'{name} has {archive.getinfo(name).file_size} bytes')
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
