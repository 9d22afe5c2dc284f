"""The videos that a program works on, and the protocol that gives them classes."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mol_fast.data.counts import compare
from mol_fast.data.embedded.generate import embedded_set
from mol_fast.data.protocols import Protocol, get_protocol, label_protocol
from mol_fast.data.store import Video, open_sets, read_info
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import rank


def open_data(
    folders: Sequence[Path] = (),
    protocol: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[list[Video], Protocol]:
    """Open prepared sets, and keep the videos that a protocol selects.

    Args:
        folders: prepared sets, used as one; without any the embedded set, which is generated on first use.
        protocol: name of the protocol; by default the one that the sets were prepared for.
        data_dir: where the embedded set is kept; a folder in the user's cache if None.
        on_progress: called with the number of videos made and that of all, while the embedded set is generated.

    Returns:
        The videos and their protocol. A warning on stderr says where counts are not those of the protocol.

    Raises:
        UserError: a set or the protocol cannot be used, or a set was prepared for another protocol.
    """
    videos = open_sets(folders) if folders else embedded_set(data_dir, on_progress).videos
    chosen = _choose_protocol(folders, protocol, videos)
    if protocol:
        _check_prepared_for(folders, chosen)
    videos = chosen.select(videos)
    if folders:
        _warn_of_counts(chosen, videos)
    return videos, chosen


def sources(videos: Iterable[Video]) -> list[str]:
    """The sources of `videos`, sorted by name."""
    return sorted({video.source for video in videos})


def fingerprint(videos: Iterable[Video]) -> str:
    """A digest of what the index says of `videos`: it tells sets apart that have the same subjects and counts."""
    rows = sorted([video.source, video.subject, video.name, video.label, video.frames] for video in videos)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _choose_protocol(folders: Sequence[Path], name: str | None, videos: list[Video]) -> Protocol:
    if name:
        return get_protocol(name)
    prepared = {str(held) for folder in folders if (held := read_info(folder).get("protocol"))}
    if len(prepared) > 1:
        raise UserError(f"the sets were prepared for {' and '.join(sorted(prepared))}: give the --protocol of them all")
    if prepared:
        return get_protocol(prepared.pop())
    return get_protocol("embedded-3") if sources(videos) == ["embedded"] else label_protocol(videos)


def _check_prepared_for(folders: Sequence[Path], protocol: Protocol) -> None:
    """Raise UserError for a set that lacks videos of the protocol, since it was prepared for another one."""
    for folder in folders:
        info = read_info(folder)
        held = info.get("protocol")
        if held and held not in (protocol.name, protocol.parts.get(info.get("source", ""))):
            raise UserError(
                f"{folder} was prepared for the protocol {held}, not for {protocol.name}: "
                f"train with --protocol {held}, or prepare the set again"
            )


def _warn_of_counts(protocol: Protocol, videos: list[Video]) -> None:
    check = compare(protocol, videos)
    if check is not None and not check.agrees and rank() == 0:
        print(f"warning: the data are not what the protocol asks for\n{check.table()}", file=sys.stderr, flush=True)
