"""The package as it is installed: data files, light imports, requirements."""

import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())


def test_data_files_are_packaged():
    patterns = PROJECT['tool']['setuptools']['package-data']['*']
    for path in (ROOT / 'resnet_rs').rglob('*'):
        if path.is_file() and path.suffix not in ('.py', '.pyc'):
            assert any(path.match(pattern) for pattern in patterns), path
    for folder in (ROOT / 'resnet_rs').iterdir():  # setuptools leaves out a folder without it
        assert (
            not folder.is_dir()
            or (folder / '__init__.py').exists()
            or (folder.name == '__pycache__')
        ), folder


def test_requirements_are_those_of_the_pinned_environment():
    """Every pin of requirements.txt is the lower bound of a requirement, and no other is asked."""
    pinned = dict(re.findall(r'^([\w-]+)==(\S+)$', (ROOT / 'requirements.txt').read_text(), re.M))
    asked = dict(requirement.split('>=') for requirement in PROJECT['project']['dependencies'])
    assert asked == pinned


def test_importing_the_package_imports_no_library():
    code = (
        'import sys, resnet_rs\n'
        'print({"jax", "flax", "tensorflow", "numpy"} & set(sys.modules))\n'
        'from resnet_rs import create_model\n'
        'print("tensorflow" in sys.modules, create_model("resnet_rs_50").architecture.stage_sizes)'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ['set()', 'False (3, 4, 6, 3)']
