"""Prepare many videos, in this process or in several worker processes."""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from mol_fast.data.store import write_video
from mol_fast.preparation.one_video import Settings, prepare_video
from mol_fast.preparation.records import Record, done_record, video_file, video_key, write_record
from mol_fast.preparation.release import RawVideo
from mol_fast.utils.errors import UserError
from mol_fast.utils.failures import explain
from mol_fast.utils.files import file_sha256
from mol_fast.utils.processes import obey_parent, signals_blocked
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.sizes import PAIRS, interval

V = TypeVar("V")
O = TypeVar("O")


class Outcome(NamedTuple):
    """The result for one video."""

    record: Record
    made: bool  # prepared in this run, not in an earlier one

    @property
    def pairs(self) -> int:
        """Number of flow fields computed in this run."""
        return PAIRS * interval(self.record.frames) if self.made else 0


class Worker:
    """Worker that prepares videos one by one. Videos that are already done are verified and kept.

    Args:
        out: folder of the prepared set.
        settings: settings of the preparation.
        make_finder: makes the finder of faces; called when the first video is prepared.
    """

    def __init__(self, out: Path, settings: Settings, make_finder: Callable[[], FaceFinder]) -> None:
        self._out = out
        self._settings = settings
        self._make_finder = make_finder
        self._finder: FaceFinder | None = None

    def __call__(self, video: RawVideo) -> Outcome:
        """Prepare a video, or record why it is skipped.

        Raises:
            UserError: the finder of faces cannot be made, or the result cannot be written.
        """
        key = video_key(video, self._settings)
        record = done_record(self._out, video, key)
        if record is not None:
            return Outcome(record, made=False)
        self._finder = self._finder or self._make_finder()
        try:
            prepared = prepare_video(video, self._finder, self._settings)
        except UserError as error:
            record = Record(key, str(error), video.fixes)
        else:
            record = Record(
                key,
                fixes=video.fixes + prepared.fixes,
                frames=len(prepared.data.frames),
                apex=prepared.apex,
                fps=prepared.fps,
                score=round(prepared.score, 3),
            )
        try:
            if not record.reason:
                file = video_file(self._out, video)
                write_video(
                    file,
                    *prepared.data,
                    subject=video.subject,
                    video=video.name,
                    label=video.label,
                    source=video.source,
                )
                record = replace(record, sha256=file_sha256(file))
            write_record(self._out, video, record)
        except OSError as error:
            raise UserError(f"{explain(error) or error}, then run the same command to resume") from error
        return Outcome(record, made=True)


def prepare_all(
    videos: Sequence[V],
    worker: Callable[[V], O],
    workers: int = 1,
    on_done: Callable[[O], object] = lambda outcome: None,
) -> list[O]:
    """Prepare videos in `workers` processes, or in this process if `workers` is 1.

    Every process uses one thread, so results do not depend on the number of processes.

    Returns:
        One outcome per video, in the order of `videos`.

    Raises:
        UserError: see `Worker`; or a process ended unexpectedly.
    """
    if workers == 1:
        outcomes = []
        with _one_thread():
            for video in videos:
                outcomes.append(worker(video))
                on_done(outcomes[-1])
        return outcomes
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start, (worker,))
    try:
        return _collect(pool, videos, 2 * workers, on_done)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process ended unexpectedly, perhaps for lack of memory; run the same command to resume, "
            "with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _collect(pool: ProcessPoolExecutor, videos: Sequence[V], ahead: int, on_done: Callable[[O], object]) -> list[O]:
    """Return the outcomes of all videos, with at most `ahead` videos submitted at a time."""
    outcomes: dict[int, O] = {}
    pending: dict[Future[O], int] = {}
    waiting = iter(enumerate(videos))
    while len(outcomes) < len(videos):
        while len(pending) < ahead and (following := next(waiting, None)) is not None:
            with signals_blocked():  # a process may start: it finishes its video when a signal comes
                pending[pool.submit(_prepare, following[1])] = following[0]
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            outcome = future.result()
            outcomes[pending.pop(future)] = outcome
            on_done(outcome)
    return [outcomes[index] for index in range(len(videos))]


_worker: Callable[[Any], Any] | None = None  # the worker of this process


def _start(worker: Callable[[Any], Any]) -> None:
    global _worker
    _worker = worker
    torch.set_num_threads(1)
    obey_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _prepare(video: Any) -> Any:
    assert _worker is not None
    return _worker(video)


def _end_with_parent() -> None:
    """End this process when its parent ends, even if the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
