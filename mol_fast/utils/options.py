"""One rule for the options of every program: a list may be repeated, and its words separated by spaces or commas.

Nothing that is given is dropped: repeats of a list add up, and every other option may be given once.
"""

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from mol_fast.utils.errors import UserError


def gather_options(words: Sequence[str], program: Callable[..., None]) -> list[str]:
    """Return the words of a command line with every option once: values of repeated lists are joined.

    Words of a list are split at commas too, except paths, whose names may contain them. Unknown options stay as they
    are, for the parser to report.

    Args:
        words: the command line.
        program: function whose parameters are options or dataclasses of options, as the parser reads it.

    Raises:
        UserError: an option that is no list is given twice, or a list is given without a value.
    """
    kinds = _kinds(program)
    groups: list[list[str]] = [[]]
    lists: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for word in words:
        if not word.startswith("--"):
            groups[-1].append(word)
            continue
        option, equals, value = word.partition("=")
        option = option.replace("_", "-")
        name = _without_no(option, kinds)
        if name not in kinds:
            groups.append([word])
        elif _is_list(kinds[name]):
            groups.append(lists.setdefault(name, [option]))  # perhaps again: words after it are added to the list
            if equals:
                groups[-1].append(value)
        elif name in seen:
            both = f"{seen[name]} is given twice" if seen[name] == option else f"{seen[name]} and {option} are given"
            raise UserError(f"{both}: give it once")
        else:
            seen[name] = option
            groups.append([option, value] if equals else [option])
    for name, group in lists.items():
        group[1:] = _split(name, group[1:], kinds[name])
    once = {id(group): group for group in groups}
    return [word for group in once.values() for word in group]


def _split(option: str, values: list[str], kind: Any) -> list[str]:
    """Return the words of a list, at least one, unless the option may stand alone."""
    inner, may_be_none = _inner(kind)
    if typing.get_args(inner)[0] is not Path:
        values = [part.strip() for value in values for part in value.split(",")]
    words = [value for value in values if value]
    if not words and (values or not may_be_none):
        raise UserError(f"{option} is given without a value: give at least one, or omit it")
    return words


def _kinds(program: Callable[..., None]) -> dict[str, Any]:
    """Return the type of every option, by its name with dashes."""
    kinds: dict[str, Any] = {}
    hints = typing.get_type_hints(program)
    for name, parameter in inspect.signature(program).parameters.items():
        if is_dataclass(hints[name]):
            inner = typing.get_type_hints(hints[name])
            kinds |= {_option(field.name): inner[field.name] for field in fields(hints[name])}
        elif parameter.kind is not parameter.POSITIONAL_ONLY:
            kinds[_option(name)] = hints[name]
    return kinds


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _without_no(option: str, kinds: dict[str, Any]) -> str:
    """Return the switch that `option` turns off, or `option` itself."""
    name = f"--{option.removeprefix('--no-')}"
    return name if option.startswith("--no-") and kinds.get(name) is bool else option


def _is_list(kind: Any) -> bool:
    inner, _ = _inner(kind)
    return typing.get_origin(inner) is tuple and typing.get_args(inner)[1:] == (...,)


def _inner(kind: Any) -> tuple[Any, bool]:
    """Return a type without `| None`, and whether it had it."""
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return kind, False
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    return parts[0], len(parts) < len(typing.get_args(kind))
