"""Figures of matplotlib as bytes."""

import io

import matplotlib
import matplotlib.figure


def encode_figure(figure: matplotlib.figure.Figure, file_format: str) -> bytes:
    """Returns a figure as 'png' or 'svg'; equal figures give equal bytes."""
    buffer = io.BytesIO()  # matplotlib cannot write to a bucket, where a work directory may be
    metadata = {'png': {'Software': None}, 'svg': {'Date': None}}[file_format]
    with matplotlib.rc_context({'svg.hashsalt': 'resnet_rs'}):
        figure.savefig(buffer, format=file_format, dpi=110, metadata=metadata)
    return buffer.getvalue()
