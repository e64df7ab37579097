"""Files of a repository of the Hugging Face Hub, kept in the Hub's own cache and checked.

The Hub states a checksum of every file: the SHA-256 of a large one, Git's SHA-1 of a small one. The
cache names files by it (huggingface_hub, file_download.py).
"""

import dataclasses
import hashlib
import importlib
import os
import pathlib
import re

from resnet_rs.utils.errors import UserError, count_of

PREFIX = 'hf:'
CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
TIMEOUT = 10.0  # seconds until a server counts as out of reach
COMMIT = re.compile(r'[0-9a-f]{40}')


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository of the Hub at a revision.

    name: 'OWNER/NAME'.
    revision: a branch, a tag or a commit.
    """

    name: str
    revision: str

    def __str__(self) -> str:
        return f'{PREFIX}{self.name}@{self.revision}'


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file in the cache whose content was checked.

    path: its path in the cache.
    commit: the repository's commit, 40 hexadecimal digits.
    """

    path: pathlib.Path
    commit: str


def is_hub_name(source: str | os.PathLike) -> bool:
    """Returns whether `source` names a repository of the Hub, and not a work directory."""
    return os.fspath(source).startswith(PREFIX)


def parse_name(source: str | os.PathLike) -> Repository:
    """Parses 'hf:OWNER/NAME' or 'hf:OWNER/NAME@REVISION'; the revision is 'main' by default."""
    match = re.fullmatch(PREFIX + r'([\w.-]+/[\w.-]+)(?:@([\w./-]+))?', os.fspath(source), re.ASCII)
    if not match:
        raise UserError(
            f'{os.fspath(source)!r} is no name of the Hub; write hf:OWNER/NAME, as in '
            'hf:timm/resnetrs50.tf_in1k, or hf:OWNER/NAME@REVISION'
        )
    return Repository(match[1], match[2] or 'main')


def download(source: str | os.PathLike) -> None:
    """Downloads the network that `source` names into the cache; does nothing for a directory.

    A command calls it before it imports JAX or TensorFlow, so that an error comes at once.
    """
    if is_hub_name(source):
        repository = parse_name(source)
        commit = fetch(repository, CONFIG).commit
        fetch(dataclasses.replace(repository, revision=commit), WEIGHTS)


def fetch(repository: Repository, file: str) -> HubFile:
    """Returns a file of a repository, from the cache where it is up to date there.

    If the Hub is out of reach, or HF_HUB_OFFLINE is set, the cached file counts. Raises UserError
    where there is none, for an unknown repository, revision or file, and for a damaged file.
    """
    hub = _library()
    where = dict(repo_id=repository.name, filename=file, revision=repository.revision)
    try:
        path = None
        if COMMIT.fullmatch(repository.revision):  # its files never change
            path = hub.try_to_load_from_cache(**where)
        if not isinstance(path, str):
            obstacle = _obstacle(hub, where)
            path = hub.hf_hub_download(**where, local_files_only=bool(obstacle))
    except hub.errors.LocalEntryNotFoundError as error:
        raise UserError(
            f'{file} of {repository} is not in the cache {hub.constants.HF_HUB_CACHE}, and '
            f'{obstacle}'
        ) from error
    except hub.errors.HfHubHTTPError as error:
        raise UserError(_describe(hub, error, repository, file)) from error
    except (hub.errors.HTTPError, hub.errors.HFValidationError, OSError) as error:
        raise UserError(
            f'the download of {file} of {repository} failed '
            f'({type(error).__name__}: {_first_line(error)}); run the command again'
        ) from error
    path = pathlib.Path(path)
    _check(path, f'{file} of {repository}')
    return HubFile(path, path.parent.name)


def _library():
    try:
        for module in ('constants', 'errors'):
            importlib.import_module(f'huggingface_hub.{module}')
        return importlib.import_module('huggingface_hub')
    except ImportError as error:
        raise UserError(
            'names of the Hub need the package huggingface_hub; install it with pip install '
            "'.[hub]' or pip install huggingface_hub"
        ) from error


def _obstacle(hub, where: dict) -> str:
    """Returns why no download is possible now, or ''.

    One request shows it. The library itself would retry for 23 seconds. Raises the library's error
    where the Hub answers that there is no such file.
    """
    if hub.constants.HF_HUB_OFFLINE:
        return 'HF_HUB_OFFLINE is set; unset it, or fill the cache where there is a network'
    address = hub.constants.ENDPOINT
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(**where), timeout=TIMEOUT)
        return ''
    except hub.errors.HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code != 429:
            raise
        return f'{address} answers {error.response.status_code}; try later'
    except hub.errors.HTTPError as error:
        return f'{address} cannot be reached ({_first_line(error)}); check the network'


def _describe(hub, error, repository: Repository, file: str) -> str:
    """Explains an answer of the Hub."""
    if isinstance(error, hub.errors.GatedRepoError):
        return (
            f'{repository.name} is gated; ask for access on its page, and log in with '
            '`hf auth login`'
        )
    if isinstance(error, hub.errors.RepositoryNotFoundError):
        return (
            f'the Hub has no repository {repository.name}, or it is private; correct the name, or '
            'log in with `hf auth login`'
        )
    if isinstance(error, hub.errors.RevisionNotFoundError):
        return (
            f'{repository.name} has no revision {repository.revision!r}; name a branch, a tag or '
            'a whole commit after the @'
        )
    if isinstance(error, hub.errors.EntryNotFoundError):
        reason = (
            'no other format of weights is read, because a pickle can run code'
            if file == WEIGHTS
            else 'without it the network is unknown'
        )
        return f'{repository} has no {file}; {reason}'
    status = error.response.status_code
    remedy = 'log in with `hf auth login`' if status in (401, 403) else 'try later'
    return f'the Hub answers {status} for {file} of {repository}; {remedy}'


def _check(path: pathlib.Path, what: str) -> None:
    """Raises UserError unless a file of the cache has the content that its name states."""
    blob = path.resolve()
    if blob.parent.name != 'blobs':
        raise UserError(
            f'{what} is no link in the cache, so its checksum is unknown; set HF_HUB_CACHE to a '
            'folder of a file system that has symbolic links'
        )
    with blob.open('rb') as content:
        if len(blob.name) == 64:
            found = hashlib.file_digest(content, 'sha256').hexdigest()
        else:
            digest = hashlib.sha1(b'blob %d\0' % blob.stat().st_size)
            digest.update(content.read())
            found = digest.hexdigest()
    if found != blob.name:
        raise UserError(
            f'{what} is damaged: {blob} has {count_of(blob.stat().st_size, "byte")} and the '
            f'checksum {found:.12}..., but the Hub states {blob.name:.12}...; remove that file and '
            'run the command again'
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
