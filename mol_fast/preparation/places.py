"""Find where the frames of a release lie: folders and video files, by the ends of their paths."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mol_fast.preparation.frame_files import VIDEO_SUFFIXES, is_video, named
from mol_fast.utils.errors import UserError
from mol_fast.vision.video import is_image

COLOUR = "color"
"""Folder of frames inside that of a recording of CAS(ME)^3."""
_DEEPEST = 8  # levels of folders below the root that are searched
K = TypeVar("K")


@dataclass(frozen=True)
class Place:
    """A folder or a video file of a release.

    Attributes:
        path: its path.
        below: its path below the root, with the suffix of a file.
        above: the name of the root.
        is_file: it is a video file.
    """

    path: Path
    below: str
    above: str
    is_file: bool

    @property
    def shown(self) -> str:
        """Path with the name of the root, for messages."""
        return f"{self.above}/{self.below}"

    def match(self, pattern: str) -> re.Match[str] | None:
        """Match the end of the path. A video file is matched without its suffix.

        Where frames lie in NAME/color, a file NAME stands for that folder.
        """
        end = re.compile(f"(?:.*/)?{pattern}", re.IGNORECASE)
        text = self.shown.removesuffix(self.path.suffix) if self.is_file else self.shown
        found = end.fullmatch(text)
        if found is None and self.is_file and pattern.endswith(f"/{COLOUR}"):
            found = end.fullmatch(f"{text}/{COLOUR}")
        return found

    def is_macro(self) -> bool:
        """Return whether a folder above it, below the root, holds macro-expressions only, by its name."""
        names = self.below.lower().split("/")[:-1]
        return any("macro" in name and "micro" not in name for name in names)

    def preference(self) -> tuple[bool, int, bool, int, str]:
        """Return a key by which places of the same frames are ordered, preferred ones first.

        A folder without images comes last. Raw frames are preferred to others, and these to cropped ones; a folder to
        a video file; then the highest place.
        """
        empty = not self.is_file and not any(is_image(path) for path in self.path.iterdir())
        name = self.shown.lower()
        kind = 2 if "crop" in name else 0 if re.search(r"(?<![a-z])raw", name) else 1
        return empty, kind, self.is_file, self.below.count("/"), self.below


def places(root: Path, release: str) -> Iterator[Place]:
    """Yield all folders and video files below the root of a release, without hidden ones.

    Raises:
        UserError: there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder of the {release} release with --root")
    top, above = root.resolve(), os.path.basename(os.path.abspath(root))  # a root may be "."
    for text, below, files in os.walk(top):
        inside = Path(text).relative_to(top)
        folder = root / inside
        below[:] = sorted(name for name in below if not name.startswith("."))
        if len(inside.parts) >= _DEEPEST:
            below[:] = []
        for name in below:
            yield Place(folder / name, (inside / name).as_posix(), above, is_file=False)
        for name in sorted(name for name in files if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES):
            if is_video(folder / name):
                yield Place(folder / name, (inside / name).as_posix(), above, is_file=True)


def preferred(found: Mapping[K, Sequence[tuple[int, Place]]]) -> tuple[dict[K, Place], list[str]]:
    """Return the preferred place of each key, and a note that names the others, if there are any.

    Args:
        found: places with the ranks of their patterns, a lower one is preferred.
    """
    best: dict[K, Place] = {}
    others = []
    for key, several in found.items():
        ordered = [place for _, place in several]
        if len(several) > 1:
            ordered = [one[-1] for one in sorted((rank, *place.preference(), place) for rank, place in several)]
        best[key] = ordered[0]
        others += [place.shown for place in ordered[1:]]
    what = f"folders that could be used as well, ignored, {len(others)}: {named(sorted(others))}"
    return best, [what] if others else []


def no_place(root: Path, release: str, example: str) -> UserError:
    """Return the error for a release without a place like the example."""
    there = named(sorted(path.name for path in root.iterdir()))
    return UserError(
        f"{root} has no folder like {example} (found: {there or 'nothing'}); "
        f"give the folder of the {release} release with --root"
    )
