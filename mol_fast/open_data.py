"""The videos that a program works on, and the protocol that gives them classes."""

import hashlib
import json
import sys
from collections.abc import Iterable

from mol_fast.data import Protocol, Video, embedded_set, get_protocol, label_protocol, open_sets
from mol_fast.data.store import read_info
from mol_fast.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import rank


def open_data(settings: TrainSettings) -> tuple[list[Video], Protocol]:
    """The videos that the protocol of `settings` selects, and the protocol.

    Without prepared sets they are those of the embedded set, which is generated on first use. Counts that are not those
    of the protocol are warned of.

    Raises:
        UserError: a set or the protocol cannot be used, or a set was prepared for another protocol.
    """
    videos = _open(settings)
    protocol = _choose_protocol(settings, videos)
    _check_prepared_for(settings, protocol)
    videos = protocol.select(videos)
    if settings.data:
        _warn_of_counts(protocol, videos)
    return videos, protocol


def sources(videos: Iterable[Video]) -> list[str]:
    """The sources of `videos`, sorted by name."""
    return sorted({video.source for video in videos})


def fingerprint(videos: Iterable[Video]) -> str:
    """A digest of what the index says of `videos`: it tells sets apart that have the same subjects and counts."""
    rows = sorted([video.source, video.subject, video.name, video.label, video.frames] for video in videos)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _open(settings: TrainSettings) -> list[Video]:
    if settings.data:
        return open_sets(settings.data)
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task = progress.add_task("making the embedded set", total=None, visible=False)
        prepared = embedded_set(
            settings.data_dir,
            lambda done, total: progress.update(task, completed=done, total=total, visible=True),
        )
    return prepared.videos


def _choose_protocol(settings: TrainSettings, videos: list[Video]) -> Protocol:
    prepared = {str(name) for folder in settings.data if (name := read_info(folder).get("protocol"))}
    if settings.protocol:
        return get_protocol(settings.protocol)
    if len(prepared) > 1:
        raise UserError(
            f"The sets were prepared for {' and '.join(sorted(prepared))}: give the --protocol of them all."
        )
    if prepared:
        return get_protocol(prepared.pop())
    return get_protocol("embedded-3") if sources(videos) == ["embedded"] else label_protocol(videos)


def _check_prepared_for(settings: TrainSettings, protocol: Protocol) -> None:
    """Raise UserError for a set that lacks videos of the protocol, since it was prepared for another one."""
    for folder in settings.data if settings.protocol else ():
        info = read_info(folder)
        held = info.get("protocol")
        if held and held not in (protocol.name, protocol.parts.get(info.get("source", ""))):
            raise UserError(
                f"{folder} was prepared for the protocol {held}, not for {protocol.name}: "
                f"train with --protocol {held}, or prepare the set again."
            )


def _warn_of_counts(protocol: Protocol, videos: list[Video]) -> None:
    from mol_fast.data.counts import compare

    comparison = compare(protocol, videos)
    if comparison is not None and not comparison.agrees and rank() == 0:
        print(
            f"warning: the data are not what the protocol asks for\n{comparison.table()}", file=sys.stderr, flush=True
        )
