"""A file of recorded numbers names the script that wrote it and the versions it used."""

import json
import pathlib
import re

import pytest

TESTS = pathlib.Path(__file__).parent
RECORDED = sorted(TESTS.rglob('*.json')) + sorted(TESTS.rglob('*_tensors.txt'))


def provenance(file: pathlib.Path) -> dict[str, str]:
    text = file.read_text()
    if file.suffix == '.json':
        return json.loads(text)
    return dict(re.findall(r'^# (\w+): (.+)$', text, re.M))


@pytest.mark.parametrize('file', RECORDED, ids=lambda file: file.name)
def test_recorder_and_versions_are_named(file):
    recorded = provenance(file)
    recorder = TESTS.parent / recorded['recorder']
    assert recorder.parent == file.parent and recorder.suffix == '.py' and recorder.is_file()
    package = r'[a-z][\w-]* \d+(\.\w+)+(\+\w+)?'
    assert re.fullmatch(rf'{package}(, {package})*', recorded['versions'])
