"""The docstring of a function begins with a verb in the third person: Returns, Reads, Raises.

Those of classes and properties are nouns. In tests they may be sentences.
"""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ('resnet_rs', 'configs', 'benchmarks')


def described_functions(folder):
    """Yields (path, name, docstring) of the functions that have one; a property is no function."""
    for path in (ROOT / folder).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
                if not any('property' in ast.unparse(each) for each in node.decorator_list):
                    yield path, node.name, docstring


@pytest.mark.parametrize('folder', FOLDERS)
def test_docstrings_begin_with_a_verb(folder):
    found = list(described_functions(folder))
    assert found
    assert not [
        f'{path}: {name}: {docstring.split()[0]}'
        for path, name, docstring in found
        if not re.match(r'[A-Z][a-z]*s\b', docstring)
    ]


@pytest.mark.parametrize('folder', (*FOLDERS, 'tests'))
def test_no_docstring_begins_as_a_fragment(folder):
    begin = re.compile(
        r'(What|How|Of|Which|Whether|From|In|With|Where|By|If|As|For|To|Not|When|Both|So|Only)\b'
    )
    assert not [
        f'{path}:{node.lineno}: {docstring.splitlines()[0]}'
        for path in (ROOT / folder).rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and (docstring := ast.get_docstring(node))
        and begin.match(docstring)
    ]
