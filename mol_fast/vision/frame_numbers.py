"""The frame numbers of image files, by their names: one rule for every folder of frames."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class NumberedFiles:
    """Files by frame number.

    Attributes:
        files: file of each frame number, sorted by number.
        doubled: files with a number that another file has, such as a copy.
        unnumbered: files without a number.
    """

    files: dict[int, Path]
    doubled: tuple[Path, ...]
    unnumbered: tuple[Path, ...]


def number_files(paths: Iterable[Path]) -> NumberedFiles:
    """Find the frame numbers of files of one folder.

    Most names of a folder differ in their digits only: `img7`, `001_v2`, `RGB-11-26-57-600`. Frames are in the order of
    the digits that differ, compared as numbers from left to right. The frame number is the first of those numbers that
    grows with every frame; if none does, as with the time of day, frames count from 1. In names of another form, such
    as the copy `img15 (1)`, the number is at the same place, or the last one. If several files have a number, the first
    is used, preferably one with a name like most. If no name has digits, frames count from 1 in the order of names.
    """
    ordered = sorted(paths, key=_natural)
    numbered = [path for path in ordered if _DIGITS.search(path.stem)]
    if not numbered:
        return NumberedFiles(dict(enumerate(ordered, start=1)), (), ())
    form = Counter(map(_form, numbered)).most_common(1)[0][0]
    usual = [path for path in numbered if _form(path) == form]
    place, counted = _place(usual)
    files: dict[int, Path] = {}
    doubled = []
    ranks = {fields: rank for rank, fields in enumerate(dict.fromkeys(map(_fields, usual)), start=1)}
    for path in usual:
        number = ranks[_fields(path)] if counted else _fields(path)[place]
        if files.setdefault(number, path) is not path:
            doubled.append(path)
    for path in numbered:
        if _form(path) == form:
            continue
        fields = _fields(path)
        number = fields[place] if place < len(fields) else fields[-1]
        if counted or files.setdefault(number, path) is not path:
            doubled.append(path)
    unnumbered = tuple(path for path in ordered if not _DIGITS.search(path.stem))
    return NumberedFiles(dict(sorted(files.items())), tuple(doubled), unnumbered)


def _place(usual: list[Path]) -> tuple[int, bool]:
    """Return which number of the names is the frame number, and whether frames are counted instead."""
    rows = list(dict.fromkeys(_fields(path) for path in usual))  # sorted; image types may double a name
    columns = list(zip(*rows, strict=True))
    differing = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    for i in differing:
        if all(before < after for before, after in pairwise(columns[i])):
            return i, False
    return len(columns) - 1, bool(differing)


def _form(path: Path) -> str:
    return _DIGITS.sub("0", path.stem.lower())


def _fields(path: Path) -> tuple[int, ...]:
    return tuple(map(int, _DIGITS.findall(path.stem)))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key in which digits compare as numbers, so that img9 comes before img46."""
    parts = _DIGITS.split(path.stem)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)] + [(0, path.suffix)]
