"""Imports between the rooms of the package run one way, and a loose file is a command."""

import ast
import graphlib
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'resnet_rs'
# A room imports rooms that stand before it; its command, __main__.py, may import all.
ROOMS = (
    'utils',
    'models',
    'config',
    'augment',
    'datasets',
    'convert',
    'hub',
    'training',
    'multihost',
    'run',
    'plan',
    'sweep',
    'export',
)
ROOT_MODULES = {path.stem for path in ROOT.glob('*.py')} | {'configs', 'tests', 'benchmarks'}


def imported(path):
    """Yields the names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} has a relative import'
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def room_of(module):
    parts = module.split('.')
    return parts[1] if parts[0] == 'resnet_rs' and len(parts) > 1 else ''


def test_every_folder_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {'__pycache__'}
    assert folders == set(ROOMS)


def test_rooms_import_earlier_rooms_alone():
    wrong = []
    for place, room in enumerate(ROOMS):
        for path in (PACKAGE / room).rglob('*.py'):
            if path.name == '__main__.py':
                continue
            rooms = {room_of(module) for module in imported(path)} - {'', room}
            wrong += [f'{path.name} imports {other}' for other in rooms - set(ROOMS[:place])]
    assert not wrong


def test_modules_import_each_other_in_no_circle():
    """Follows the imports inside of functions, too."""
    files = {}
    for path in PACKAGE.rglob('*.py'):
        parts = path.relative_to(ROOT).with_suffix('').parts
        files['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path

    def parts_of(path):
        """Yields imported modules, without the packages that they are imported from."""
        names = [name for name in imported(path) if name in files]
        for name in names:
            if files[name].name != '__init__.py' or not any(
                other.startswith(f'{name}.') for other in names
            ):
                yield name

    graph = {name: set(parts_of(path)) - {name} for name, path in files.items()}
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()  # raises CycleError, which names the modules


def test_package_imports_nothing_from_the_root():
    for path in PACKAGE.rglob('*.py'):
        assert not ROOT_MODULES & {module.partition('.')[0] for module in imported(path)}, path


def test_loose_files_are_commands():
    for path in PACKAGE.glob('*.py'):
        if path.name != '__init__.py':
            assert "if __name__ == '__main__':" in path.read_text(), f'{path} is no command'
            assert f'python -m resnet_rs.{path.stem}' in ast.get_docstring(
                ast.parse(path.read_text())
            ), f'{path} does not say how it is called'
