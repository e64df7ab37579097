"""Messages name a setting by the flag that a person can type."""

import ast
import pathlib
import re

from resnet_rs.config import SETTINGS

ROOT = pathlib.Path(__file__).parent.parent
FILES = [*ROOT.glob('*.py'), *ROOT.glob('configs/**/*.py'), *ROOT.glob('resnet_rs/**/*.py')]
NAMES = '|'.join(sorted(map(re.escape, SETTINGS), key=len, reverse=True))
# What a person is told to change is a flag to type, --config.NAME, and never a bare NAME.
ADVICE = re.compile(
    rf'\b(use|set|lower|raise|lengthen|shorten|smaller|larger|longer|more|with) ({NAMES})\b(?! is)'
    rf"|(?<!--config\.)\b({NAMES})='"
)


def texts_of(path):
    """The texts of a module in which values are left out, without its docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(
                part.value if isinstance(part, ast.Constant) else '{}' for part in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings | inner
        ):
            yield node.value


def test_advice_names_the_flag_to_type():
    found = [(path.name, text) for path in FILES for text in texts_of(path) if ADVICE.search(text)]
    assert not found
