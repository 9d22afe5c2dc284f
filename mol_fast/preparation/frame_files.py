"""Find the images of a raw video by their frame numbers."""

import math
from dataclasses import dataclass
from pathlib import Path

from mol_fast.vision.frame_numbers import number_files
from mol_fast.vision.sizes import WINDOW
from mol_fast.vision.video import is_image

LEAST_PRESENT = 0.75  # smallest share of present frames; a video with less is skipped
SHORT = math.ceil(WINDOW / LEAST_PRESENT)
"""A clip with fewer frames may have fewer than a window that can be read."""
VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
_NAMED = 5  # longest list of names in a message


@dataclass(frozen=True)
class FrameFiles:
    """The images of a folder by frame number.

    Attributes:
        files: image of each frame number, sorted by number.
        fixes: messages about ignored files.
    """

    files: dict[int, Path]
    fixes: tuple[str, ...]


def frame_files(folder: Path) -> FrameFiles:
    """Find the frames in a folder, numbered as in `number_files`.

    Ignores hidden files, files other than images, and images without a number. Of several images with the same number,
    the first is used.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = number_files(path for path in files if is_image(path))
    junk = [path.name for path in files if not is_image(path) or path in found.unnumbered]
    fixes = []
    if junk:
        fixes.append(f"files that are not frames, ignored: {named(junk)}")
    if found.doubled:
        fixes.append(f"frames with a repeated number, ignored: {named([path.name for path in found.doubled])}")
    return FrameFiles(found.files, tuple(fixes))


def too_few(found: FrameFiles, onset: int, offset: int, step: int = 1) -> str | None:
    """Return the reason to skip the video: too few frames from onset to offset; or None.

    Args:
        found: the frames.
        onset, offset: first and last frame number of the video.
        step: distance of consecutive frame numbers.
    """
    present = sum(onset <= number <= offset for number in found.files)
    if present >= max(1, LEAST_PRESENT * ((offset - onset) // step + 1)):
        return None
    there = f"{min(found.files)} to {max(found.files)}" if found.files else "none"
    return f"{present} of the frames {onset} to {offset} are there, the folder has {there}"


def cut(
    found: FrameFiles, onset: int, offset: int, apex: int | None, step: int = 1
) -> tuple[tuple[Path, ...], int | None, list[str]]:
    """Return the frames from onset to offset, the index of the apex among them, and messages about missing frames.

    If the frame of the apex is missing, return the index of the nearest frame. `step` is the distance of consecutive
    frame numbers.
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


def widened_text(count: int) -> str:
    """Return the message for a clip of fewer frames than a window that is widened."""
    return f"{count} frames from onset to offset, widened to {WINDOW} with frames around them"


def is_video(path: Path) -> bool:
    """Return whether a file is a video, by its name; hidden files are none."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def subfolders(parent: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones."""
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def named(names: list[str]) -> str:
    """Join the first few names in one line, and count the rest."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _ranges(numbers: list[int]) -> str:
    """Join numbers in one line, with runs as first-last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return named([str(first) if first == last else f"{first}-{last}" for first, last in runs])
