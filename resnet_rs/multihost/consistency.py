"""Checks that the hosts of a run agree, before a device is touched or anything is compiled.

Hosts whose code, configuration or data differ from those of process 0 would wait for each other in
different collectives, or train on the wrong data.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import sys
import uuid

import ml_collections
import tensorflow as tf
from etils import epath

from resnet_rs.config import flatten, may_differ_between_hosts
from resnet_rs.datasets.splits import DatasetInfo
from resnet_rs.multihost import hosts
from resnet_rs.utils.environment import PACKAGES, git_commit

ROOT = pathlib.Path(__file__).parents[2]
TOP_LEVEL_FILES = ('main.py', 'train_lib.py', 'input_pipeline.py')
ENVIRONMENT = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'JAX_PLATFORMS')  # change the compiled programs


def check_hosts(config: ml_collections.ConfigDict, info: DatasetInfo) -> None:
    """Raises UserError naming a host that differs from process 0 and the first difference.

    The check compares the code, the versions, the resolved configuration and the dataset. On every
    host TensorFlow must see no accelerator.
    """
    agree('TensorFlow leaves the accelerators alone', tensorflow_problem())
    facts = describe(config, info) if hosts.count() > 1 else {}
    reference = json.loads(
        hosts.gather('facts of process 0', json.dumps(facts) if hosts.index() == 0 else '')[0]
    )
    difference = first_difference(facts, reference)
    agree('same code, configuration and data', difference)


def agree(what: str, problem: str) -> None:
    here = f'{hosts.name(hosts.index())}: ' if hosts.count() > 1 else ''
    hosts.agree_or_raise(what, problem and here + problem)


def describe(config: ml_collections.ConfigDict, info: DatasetInfo) -> dict[str, str]:
    """Returns {name in words: value} of everything that must be equal on all hosts."""
    facts = {f'file {name}': _digest(path.read_bytes()) for name, path in _code().items()}
    facts['git commit'] = (git_commit() or 'unknown').removesuffix('+changes')
    facts['version of python'] = sys.version.split()[0]
    for name in (*PACKAGES, 'libtpu'):
        facts[f'version of {name}'] = _version(name)
    facts |= {f'environment variable {name}': os.environ.get(name, '') for name in ENVIRONMENT}
    for name, value in flatten(config.to_dict()).items():
        if not may_differ_between_hosts(name):
            facts[f'config.{name}'] = repr(value)
    name = '' if info.name == info.directory else info.name
    facts['dataset'] = f'{name} {info.file_format}'.strip()
    facts['class names'] = _digest('\n'.join(info.class_names).encode())
    for split in info.splits.values():
        facts[f'size of split {split.name}'] = str(split.num_examples)
        facts[f'files of split {split.name}'] = _digest(_file_list(info, split))
    return facts


def first_difference(facts: dict[str, str], reference: dict[str, str]) -> str:
    """Returns the first difference in words, or ''; an unknown git commit is no difference."""
    for thing in sorted(facts.keys() | reference.keys()):
        here, there = facts.get(thing, 'absent'), reference.get(thing, 'absent')
        if here != there and not (thing == 'git commit' and 'unknown' in (here, there)):
            return (
                f'{thing} is {here} here and {there} on process 0; bring every host to the same '
                'code, command and data'
            )
    return ''


def tensorflow_problem() -> str:
    """Returns an error if TensorFlow sees accelerators, whose memory it would take; else ''."""
    seen = [
        device.name for device in tf.config.list_physical_devices() if device.device_type != 'CPU'
    ]
    if not seen:
        return ''
    return (
        f'TensorFlow sees {", ".join(seen)} and would take its memory from JAX; install '
        'tensorflow-cpu as in requirements.txt, and no other tensorflow'
    )


def check_shared_workdir(workdir: str | os.PathLike) -> None:
    """Raises UserError unless every host can write to `workdir` and all see the same directory.

    Each host writes a file there, process 0 checks that all exist, and each host removes its own.
    """
    token = hosts.gather('token', uuid.uuid4().hex)[0]
    directory = epath.Path(workdir)
    mine = directory / f'.host-{hosts.index()}-{token}'
    problem = ''
    try:
        directory.mkdir(parents=True, exist_ok=True)
        mine.write_text(token)
    except Exception as error:  # the file system or the bucket's library may raise any kind
        problem = f'--workdir={directory} cannot be written ({error}); name another'
    try:
        agree('work directory written', problem)
        problem = ''
        if hosts.index() == 0:
            unseen = [
                hosts.name(process)
                for process in range(hosts.count())
                if not (directory / f'.host-{process}-{token}').exists()
            ]
            if unseen:
                problem = (
                    f'--workdir={directory} is another directory on {", ".join(unseen)}; name a '
                    'bucket (gs://...) or a file system that all hosts share'
                )
        agree('work directory shared', problem)
    finally:
        if mine.exists():
            mine.unlink()


def _code() -> dict[str, pathlib.Path]:
    files = [ROOT / name for name in TOP_LEVEL_FILES]
    files += (ROOT / 'resnet_rs').rglob('*.py')
    return {path.relative_to(ROOT).as_posix(): path for path in files if path.exists()}


def _file_list(info: DatasetInfo, split) -> bytes:
    """Lists names and lengths of record files, or names and labels of images, as bytes.

    The names do not contain the directory, which may differ between hosts.
    """
    names = [name.removeprefix(info.directory) for name in split.files]
    numbers = split.shard_lengths or split.labels
    return json.dumps([names, numbers]).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'
