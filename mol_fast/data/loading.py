"""Open the videos of a program, with the protocol that maps their labels to classes."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mol_fast.data.counts import compare
from mol_fast.data.embedded.generate import EMBEDDED, MOST_SUBJECTS, SUBJECTS, embedded_order, embedded_set
from mol_fast.data.heads import HEADS
from mol_fast.data.protocols import Protocol, get_protocol, label_protocol
from mol_fast.data.store import Video, open_sets, read_info
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import rank


def data_folders(
    given: Sequence[Path],
    data_dir: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Return the folders of prepared sets, in which `embedded` and `heads` stand for the generated sets.

    `embedded-48` is the embedded set with 48 subjects, and likewise for other numbers. A folder of this name in the
    current folder goes before. The sets are generated on first use.

    Args:
        given: folders and names.
        data_dir: folder of the embedded set. Default: a folder in the user's cache.
        on_progress: called with (videos done, all videos) while a set is generated.

    Raises:
        UserError: a set cannot be generated.
    """

    def folder(path: Path) -> Path:
        several = re.fullmatch(EMBEDDED + "-([0-9]{1,9})", str(path))
        if path.exists() or not (several or str(path) in (EMBEDDED, HEADS)):
            return path
        if str(path) == EMBEDDED:
            return embedded_set(data_dir, on_progress).path
        if several:
            subjects = int(several[1])
            if not SUBJECTS < subjects <= MOST_SUBJECTS:
                raise UserError(
                    f"no folder {path}: the embedded set has {SUBJECTS} subjects, and {EMBEDDED}-N has N of them, from "
                    f"{SUBJECTS + 1} to {MOST_SUBJECTS}"
                )
            return embedded_set(data_dir, on_progress, subjects).path
        from mol_fast.data.heads.generate import heads_set

        return heads_set(on_progress).path

    return tuple(map(folder, given))


def open_data(
    folders: Sequence[Path] = (),
    protocol: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[list[Video], Protocol]:
    """Open prepared sets, and select the videos of a protocol.

    The order of sets, rows and files changes nothing: videos are sorted by source, subject and name, those of the
    embedded set as they are generated. Warns on stderr if counts or clips differ from the protocol's.

    Args:
        folders: prepared sets, used as one set. Default: the embedded set, which is generated on first use.
        protocol: name of the protocol. Default: the protocol that the sets were prepared for.
        data_dir: folder of the embedded set. Default: a folder in the user's cache.
        on_progress: called with (videos done, all videos) while the embedded set is generated.

    Returns:
        The videos and their protocol.

    Raises:
        UserError: a set or the protocol cannot be used, or a set was prepared for another protocol.
    """
    videos = open_sets(folders) if folders else embedded_set(data_dir, on_progress).videos
    chosen = _choose_protocol(folders, protocol, videos)
    if protocol:
        _check_prepared_for(folders, chosen)
    videos = sorted(chosen.select(videos), key=_order)
    if folders:
        _warn_of_counts(chosen, videos)
    return videos, chosen


def check_videos(videos: Sequence[Video], on_progress: Callable[[int, int], object] = lambda done, total: None) -> None:
    """Check the content of every video before a long work begins, which would end in its middle otherwise.

    Reads every file once (the embedded set, 220 MB, takes half a second).

    Args:
        videos: the videos.
        on_progress: called with (videos done, all videos).

    Raises:
        UserError: a file is missing, damaged, or holds values that cannot be used.
    """
    for done, video in enumerate(videos, start=1):
        video.check()
        on_progress(done, len(videos))


def check_flow(videos: Sequence[Video], reader: str) -> None:
    """Check that the videos have flow, for a method that reads it.

    Args:
        videos: the videos.
        reader: what reads the flow, for the message.

    Raises:
        UserError: the flow of every video of a source is zero everywhere.
    """
    for source in sources(videos):
        if not any(bool(video.read().flow.any()) for video in videos if video.source == source):
            raise UserError(
                f"{source} has no flow, it is zero in every video, and {reader} reads flow: prepare the set with flow"
            )


def sources(videos: Iterable[Video]) -> list[str]:
    """Return the sources of `videos`, sorted."""
    return sorted({video.source for video in videos})


def fingerprint(videos: Iterable[Video], units: bool = False) -> str:
    """Return a digest of the index rows of `videos`, to tell apart sets with equal subjects and counts.

    Args:
        videos: the videos.
        units: their action units count, too.
    """
    rows = sorted(
        [video.source, video.subject, video.name, video.label, video.frames, *([video.action_units] if units else [])]
        for video in videos
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def content_digest(videos: Iterable[Video]) -> str:
    """Return a digest of the content of the files of `videos`, to tell apart sets that were made in different ways.

    Files of earlier versions, which have no digest, count as equal.

    Raises:
        UserError: a file cannot be read.
    """
    return hashlib.sha256(json.dumps(sorted([*video.id, video.digest()] for video in videos)).encode()).hexdigest()


def _order(video: Video) -> tuple[int | str, ...]:
    return (video.source, *embedded_order(video)) if video.source == EMBEDDED else video.id


def _choose_protocol(folders: Sequence[Path], name: str | None, videos: list[Video]) -> Protocol:
    if name:
        return get_protocol(name)
    prepared = {held for folder in folders if (held := read_info(folder).protocol)}
    if len(prepared) > 1:
        raise UserError(
            f"the sets were prepared for {' and '.join(sorted(prepared))}: give the --protocol that joins them"
        )
    if prepared:
        return get_protocol(prepared.pop())
    return get_protocol("embedded-3") if set(sources(videos)) <= {EMBEDDED, HEADS} else label_protocol(videos)


def _check_prepared_for(folders: Sequence[Path], protocol: Protocol) -> None:
    """Raise UserError if a set was prepared for another protocol, so that it may lack videos."""
    for folder in folders:
        info = read_info(folder)
        held = info.protocol
        if held and held not in (protocol.name, protocol.parts.get(info.source or "")):
            raise UserError(
                f"{folder} was prepared for the protocol {held}, not for {protocol.name}: "
                f"train with --protocol {held}, or prepare the set again"
            )


def _warn_of_counts(protocol: Protocol, videos: list[Video]) -> None:
    check = compare(protocol, videos)
    if check is None or rank():
        return
    what = "counts" if not check.agrees else "clips" if check.clips and not check.clips.agrees else None
    if what:
        print(f"warning: the {what} differ from the protocol's\n{check.table()}", file=sys.stderr, flush=True)
