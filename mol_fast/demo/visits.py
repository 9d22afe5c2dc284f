"""What a visitor leaves on the disk, and its end."""

import shutil
import tempfile
from pathlib import Path
from threading import Lock


class Visits:
    """Knows the video and the results of each visitor, and deletes them when the visitor is gone.

    Args:
        folder: folder of all results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._videos: dict[str, Path] = {}
        self._results: dict[str, Path] = {}

    def keep(self, visitor: str, video: Path) -> None:
        """Remember the video of a visitor; the one before is deleted."""
        with self._lock:
            before = self._videos.get(visitor)
            self._videos[visitor] = video
            self._delete_video(before)

    def new_results(self, visitor: str) -> Path:
        """Make a folder for results of a visitor; the one before is deleted."""
        with self._lock:
            self._delete_results(visitor)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._results[visitor] = Path(tempfile.mkdtemp(dir=self._folder))
            return self._results[visitor]

    def waits_for(self, visitor: str, results: Path) -> bool:
        """Return whether the visitor is still there and wants these results."""
        return self._results.get(visitor) == results

    def end(self, visitor: str) -> None:
        """Delete everything of a visitor."""
        with self._lock:
            self._delete_results(visitor)
            self._delete_video(self._videos.pop(visitor, None))

    def _delete_results(self, visitor: str) -> None:
        results = self._results.pop(visitor, None)
        if results is not None:
            shutil.rmtree(results, ignore_errors=True)

    def _delete_video(self, video: Path | None) -> None:
        """Delete a video, unless another visitor gave the same one."""
        if video is not None and video not in self._videos.values():
            video.unlink(missing_ok=True)
