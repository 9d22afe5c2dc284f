"""The program that finds the landmarks of a face in every frame of a video: `python -m mol_fast.faces VIDEO`.

In Python: `mol_fast.faces.find_landmarks("VIDEO")` returns the same table as a data frame of pandas.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mol_fast.cli import progress, run_program
from mol_fast.prediction.sources import open_source
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.tables import csv_table
from mol_fast.vision.finders import Finders, open_finder
from mol_fast.vision.tracking import FaceTracker
from mol_fast.vision.video import FrameSource, grey

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("frame", "seconds", "shot", "person", "score", *(f"{axis}{k}" for k in range(68) for axis in "xy"))

Row = dict[str, float | int]


@dataclass(frozen=True)
class Options:
    """Options of the program.

    Attributes:
        out: CSV file to write. Default: NAME-landmarks.csv in the current folder.
        person: Number of the person whose face is followed. People are numbered as they appear; those that appear
            together by size, the largest first.
        faces: Finder of faces: mediapipe, or dlib with its 68-point predictor (its weights are not for commercial
            use).
        min_score: Smallest score of a face. Default: 0.5 of 1 for mediapipe; 0.2 for dlib, where clear frontal faces
            have about 1 or more.
        fps: Frames per second. Replaces the time stamps of a video file; folders have none.
    """

    out: Path | None = None
    person: int = 1
    faces: Finders = "mediapipe"
    min_score: float | None = None
    fps: float | None = None


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # print no messages beside the one error
    return run_program(run, argv, "faces", "faces")


def run(video: Path, /, faces: Options) -> None:
    """Find the 68 landmarks of a person's face in every frame of a video, and write them as a table.

    The table has one row per frame: frame (from 0), seconds (by time stamps), shot (from 0; it grows with every cut),
    person, score, and x0, y0 to x67, y67: the iBUG landmarks in pixels of the displayed frame, where the centre of the
    first pixel is (0, 0). Where the face is not seen, person, score and landmarks are empty.

    Args:
        video: Video file, or folder of images in the order of the numbers in their names.
        faces: Options of the program.

    Raises:
        UserError: the input or an option cannot be used, or the person is not in the video.
    """
    options = faces
    if options.fps is not None and not 0 < options.fps < float("inf"):
        raise UserError(f"--fps is {options.fps}, must be positive and finite")
    source = open_source(video, options.fps)
    tracker = FaceTracker(open_finder(options.faces, options.min_score), options.person)
    with progress("frame") as begin:
        rows = list(landmark_rows(source, tracker, begin("finding", source.count)))
    tracker.check(source.name)
    out = options.out or Path(f"{video.resolve().stem}-landmarks.csv")
    write_atomic(out, csv_table(rows, COLUMNS))
    seen = sum("person" in row for row in rows)
    print(f"person {tracker.person} of {tracker.people} is seen in {seen} of {source.count} frames")
    for note in source.notes:
        print(f"note: {note}")
    print(f"written to {out}")


def find_landmarks(
    video: str | os.PathLike[str], person: int = 1, faces: Finders = "mediapipe", min_score: float | None = None
) -> "DataFrame":
    """Return the landmarks of a person's face in every frame of a video, as a data frame with the columns `COLUMNS`.

    Args:
        video: video file, or folder of images.
        person: number of the person, from 1; people are numbered as they appear, the largest first.
        faces: finder of faces, "mediapipe" or "dlib".
        min_score: smallest score of a face. Default: that of the finder.

    Raises:
        UserError: the video cannot be read, the person is not in it, or pandas or the finder is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise UserError("find_landmarks needs pandas: pip install 'mol-fast[train]'") from error
    source = open_source(video)
    tracker = FaceTracker(open_finder(faces, min_score), person)
    rows = list(landmark_rows(source, tracker))
    tracker.check(source.name)
    return DataFrame(rows, columns=list(COLUMNS))


def landmark_rows(
    source: FrameSource, tracker: FaceTracker, on_frame: Callable[[], object] = lambda: None
) -> Iterator[Row]:
    """Yield the row of the table for each frame of a source. Values that are not known are left out."""
    for index, picture in enumerate(source):
        sight = tracker.look(grey(picture))
        row: Row = {"frame": index, "shot": sight.shot}
        if source.times is not None:
            row["seconds"] = round(float(source.times[index]), 6)
        if sight.face is not None:
            row |= {"person": tracker.person, "score": round(sight.face.score, 4)}
            values = sight.face.landmarks.astype(float).round(3).ravel().tolist()
            row |= dict(zip(COLUMNS[-len(values) :], values, strict=True))
        yield row
        on_frame()


if __name__ == "__main__":
    sys.exit(main())
