"""Exported files: their check without another process, and the examples that read them."""

import runpy
import sys

import numpy as np

from helpers.processes import ROOT
from resnet_rs.export import check, reader


def read_in_process(patch) -> None:
    """Reads exported files in this process: starting another takes five seconds of a CPU."""
    patch.setattr(
        check,
        'logits_without_project',
        lambda format, folder, images: np.asarray(reader.READERS[format](folder)(images)),
    )


def run_example(patch, capsys, name, *arguments):
    """Runs a script of examples/, which imports nothing of this project; returns its lines."""
    path = ROOT / 'examples' / name
    lines = path.read_text().splitlines()
    imports = [line for line in lines if line.startswith(('import ', 'from '))]
    assert len(lines) <= 25 and not any('resnet_rs' in line for line in imports)
    capsys.readouterr()
    patch.setattr(sys, 'argv', [name, *map(str, arguments)])
    runpy.run_path(str(path), run_name='__main__')
    return capsys.readouterr().out.splitlines()
