"""What a visitor leaves on the disk, and its end."""

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Lock


@dataclass
class _Visit:
    """The video of a visitor, and the folder of its results, if they were asked for."""

    video: Path | None
    results: Path | None = None


class Visits:
    """Knows the video and the results of each visitor, and deletes them when the visitor is gone.

    Args:
        folder: folder of all results.
        example: a video that is never deleted.
    """

    def __init__(self, folder: Path, example: Path) -> None:
        self._folder = folder
        self._example = example
        self._lock = Lock()
        self._visits: dict[str, _Visit] = {}

    def give(self, visitor: str, video: Path | None) -> None:
        """Remember the video of a visitor, or that there is none. The one before is deleted, with its results."""
        with self._lock:
            before = self._visits.get(visitor)
            self._visits[visitor] = _Visit(video)
            self._delete(before)

    def begin(self, visitor: str, video: Path) -> Path | None:
        """Make a folder for the results of a video.

        Returns:
            The folder. None if nobody waits for it: the visitor is gone, gave another video since, or has the results.
        """
        with self._lock:
            visit = self._visits.get(visitor)
            if visit is None or visit.video != video or visit.results is not None:
                return None
            self._folder.mkdir(parents=True, exist_ok=True)
            visit.results = Path(tempfile.mkdtemp(dir=self._folder))
            return visit.results

    def waits_for(self, visitor: str, results: Path) -> bool:
        """Return whether the visitor is still there and wants these results."""
        visit = self._visits.get(visitor)
        return visit is not None and visit.results == results

    def drop(self, visitor: str, results: Path) -> None:
        """Delete results, as of an analysis that failed."""
        with self._lock:
            if self.waits_for(visitor, results):
                self._visits[visitor].results = None
            shutil.rmtree(results, ignore_errors=True)

    def end(self, visitor: str) -> None:
        """Delete everything of a visitor."""
        with self._lock:
            self._delete(self._visits.pop(visitor, None))

    def _delete(self, visit: _Visit | None) -> None:
        """Delete the results of a visit, and its video, unless that is the video of another visit."""
        if visit is None:
            return
        if visit.results is not None:
            shutil.rmtree(visit.results, ignore_errors=True)
        others = {self._example, *(other.video for other in self._visits.values())}
        if visit.video is not None and visit.video not in others:
            visit.video.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the server keeps each video in a folder of its own
                visit.video.parent.rmdir()
