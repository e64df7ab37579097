"""Small text files, which a crash or a person may have damaged; and how many files may be open."""

import json
import resource
from typing import Any

from resnet_rs.utils.errors import UserError


def read_text(path, remedy: str) -> str:
    """Returns the text of `path`, a pathlib or etils.epath Path.

    Raises UserError naming the file and the `remedy` where it cannot be read or is no UTF-8.
    """
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise UserError(f'{path} is missing; {remedy}') from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read ({error}); {remedy}') from error


def parse_json(text: str, path, remedy: str) -> Any:
    """Returns the JSON document `text`; raises UserError as `read_text` does."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: lists in lists in lists
        raise UserError(f'{path} is damaged ({error}); {remedy}') from error


def read_json(path, remedy: str) -> Any:
    """Returns the JSON document in `path`; raises UserError as `read_text` does."""
    return parse_json(read_text(path, remedy), path, remedy)


def allow_open_files(count: int) -> None:
    """Lets at least `count` files be open at once, as far as the system allows; often it is 1,024.

    Every file of an array_record set stays open; ImageNet has 1,024 for training alone.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
