"""Read JSON that anybody may have written: bounded, and checked against a type before it is used.

A type is mostly a `msgspec.Struct`, which stands beside the code that writes the file. Numbers, texts and lists get
their bounds from `msgspec.Meta`; a Struct checks more in `__post_init__`, by raising ValueError.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import LARGEST_JSON, LONGEST_TEXT, MEGABYTE

T = TypeVar("T")
_LONGEST_PROBLEM = 200  # characters of an error that may quote the file

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]
"""A text that is not empty."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A whole number that is not negative."""


def read_json(path: Path, type: type[T], advice: str, largest: int = LARGEST_JSON) -> T:
    """Read a JSON file.

    Args:
        path: the file.
        type: type of the content, such as a `msgspec.Struct`.
        advice: what to do if the file cannot be used, the end of the error's sentence.
        largest: size in bytes above which the file is refused without being read.

    Raises:
        UserError: the file cannot be read, is too large, is not JSON, or does not have the type.
    """
    return parse_json(read_bounded(path, advice, largest), type, path, advice)


def parse_json(data: str | bytes, type: type[T], where: object, advice: str) -> T:
    """Parse JSON. `where` names it in errors; see `read_json`.

    Raises:
        UserError: the text is not JSON, names a key twice, is nested too deeply, or does not have the type.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        content = msgspec.json.decode(text, type=type)
        # msgspec keeps the last of equal keys; numbers are not parsed again, their size is checked only where used
        json.loads(text, object_pairs_hook=_refuse_duplicates, parse_int=str, parse_float=str)
    except msgspec.ValidationError as error:
        problem = _sentence(str(error))
    except UnicodeError:
        problem = "not UTF-8 text"
    except msgspec.DecodeError as error:
        problem = f"not valid JSON ({_lower(str(error).removeprefix('JSON is malformed: '))})"
    except RecursionError:
        problem = "nested too deeply"
    except ValueError as error:
        problem = str(error)
    else:
        return content
    raise UserError(f"{where}: {_short(problem)}; {advice}")


def read_bounded(path: Path, advice: str, largest: int) -> bytes:
    """Read a file of at most `largest` bytes.

    Raises:
        UserError: the file is missing, is larger, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a file; {advice}")
        with open(path, "rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; {advice}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read ({_lower(reason)}); {advice}") from None
    if len(data) > largest:
        raise UserError(f"{path}: larger than {largest / MEGABYTE:.0f} MB; {advice}")
    return data


def check_unique(values: Iterable[Any], what: str) -> None:
    """Raise ValueError if a value occurs twice; for `__post_init__` of a Struct."""
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the {what} {value!r} occurs twice")
        seen.add(value)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    check_unique((key for key, _ in pairs), "key")


def _sentence(message: str) -> str:
    """Turn a message such as "Expected `int`, got `str` - at `$.frames`" into a part of our sentence."""
    what, _, place = message.partition(" - at `")
    place = place.rstrip("`").removeprefix("$").lstrip(".")
    return f"{_lower(what.replace('`', ''))}{f' at {place}' if place else ''}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_PROBLEM else f"{text[: _LONGEST_PROBLEM - 3]}..."


def _lower(text: str) -> str:
    return re.sub(r"^[A-Z](?=[a-z])", lambda match: match[0].lower(), text)
