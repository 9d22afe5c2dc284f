"""The images of a raw video, by frame number."""

import re
from dataclasses import dataclass
from pathlib import Path

from mol_fast.vision.video import IMAGE_SUFFIXES, number_order

LEAST_PRESENT = 0.75  # of the frames of a video; one with fewer is skipped
_NAMED = 5  # junk files and missing frames are named up to this many


@dataclass(frozen=True)
class FrameFiles:
    """The images of a folder that have a frame number, and what was passed over.

    Attributes:
        files: image of each frame number, in the order of the numbers.
        fixes: files passed over.
    """

    files: dict[int, Path]
    fixes: tuple[str, ...]


def frame_files(folder: Path) -> FrameFiles:
    """The frames in a folder: images by the last number in their names.

    Hidden files, other files and images without a number are passed over, and so are all but the first of several
    images with the same number.
    """
    numbered: dict[int, Path] = {}
    junk, doubled = [], []
    for path in sorted((path for path in folder.iterdir() if path.is_file()), key=number_order):
        numbers = re.findall(r"\d+", path.stem)
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not numbers:
            junk.append(path.name)
        elif numbered.setdefault(int(numbers[-1]), path) is not path:
            doubled.append(path.name)
    fixes = []
    if junk:
        fixes.append(f"not frames, passed over: {named(junk)}")
    if doubled:
        fixes.append(f"frames with a number that occurs before, passed over: {named(doubled)}")
    return FrameFiles(dict(sorted(numbered.items())), tuple(fixes))


def too_few(found: FrameFiles, onset: int, offset: int, step: int = 1) -> str | None:
    """Why the frames from onset to offset, of which every `step`-th has a number, make no video; None if they do."""
    present = sum(onset <= number <= offset for number in found.files)
    if present >= max(1, LEAST_PRESENT * ((offset - onset) // step + 1)):
        return None
    there = f"{min(found.files)} to {max(found.files)}" if found.files else "none"
    return f"{present} of the frames {onset} to {offset} are there, the folder has {there}"


def cut(
    found: FrameFiles, onset: int, offset: int, apex: int | None, step: int = 1
) -> tuple[tuple[Path, ...], int | None, list[str]]:
    """The frames from onset to offset, the index of the apex among them, and what is missing.

    Every `step`-th frame has a number. Where the apex is missing, its index is that of the nearest frame.
    """
    numbers = [number for number in found.files if onset <= number <= offset]
    missing = [number for number in range(onset, offset + 1, step) if number not in found.files]
    fixes = [f"frames missing from {onset} to {offset}, left out: {_ranges(missing)}"] if missing and numbers else []
    index = None
    if apex is not None and numbers:
        if onset <= apex <= offset:
            index = min(range(len(numbers)), key=lambda i: abs(numbers[i] - apex))
        else:
            fixes.append(f"apex {apex} is not between onset and offset, taken as not annotated")
    return tuple(found.files[number] for number in numbers), index, fixes


def subfolders(parent: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones."""
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def named(names: list[str]) -> str:
    """Names in one line, the first few of many."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _ranges(numbers: list[int]) -> str:
    """Numbers in one line, runs as first-last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return named([str(first) if first == last else f"{first}-{last}" for first, last in runs])
