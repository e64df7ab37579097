"""Files of recorded numbers: each names the script that wrote it and the versions it used."""

import importlib.metadata
import json
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def provenance(recorder: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Returns {'recorder': path, 'versions': text} for the script `recorder`, its __file__."""
    versions = (f'{name} {importlib.metadata.version(name)}' for name in packages)
    return {
        'recorder': pathlib.Path(recorder).resolve().relative_to(ROOT).as_posix(),
        'versions': ', '.join(versions),
    }


def write_golden(
    file: str, recorder: str, packages: tuple[str, ...], content: dict, indent: int = 1
) -> None:
    """Writes `content` to `file` beside the recorder, after what provenance() returns."""
    golden = provenance(recorder, packages) | content
    path = pathlib.Path(recorder).with_name(file)
    path.write_text(json.dumps(golden, indent=indent) + '\n')
