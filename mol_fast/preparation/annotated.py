"""Turn a row of an annotation sheet into a raw video: its frames from onset to offset, or the reason to skip it."""

from dataclasses import dataclass
from pathlib import Path

from mol_fast.preparation.frame_files import cut, frame_files, is_video, too_few
from mol_fast.preparation.release import RawVideo, Skipped, normalised_label
from mol_fast.preparation.sheets import Row
from mol_fast.vision.sizes import WINDOW


@dataclass(frozen=True, kw_only=True)
class AnnotatedSet:
    """A data set with an annotation sheet.

    Attributes:
        source: name of the set.
        subject: format of a subject's name.
        sheets: patterns of the sheet's name, preferred ones first.
        fps: frames per second of the camera; None if unknown, or if the sheet tells it.
        incomplete: (subject, name) of videos that are used although a release lacks many of their frames.
    """

    source: str
    subject: str
    sheets: tuple[str, ...]
    fps: float | None
    incomplete: frozenset[tuple[str, str]] = frozenset()


def annotated_video(
    release: AnnotatedSet, subject: str, name: str, row: Row, folder: Path | None
) -> RawVideo | Skipped:
    """Return the video of a row of the sheet, or the reason to skip it.

    Args:
        release: the release.
        subject, name: as stored in the set.
        row: the row.
        folder: its folder of frames, or its video file; None if there is none.
    """
    label, fixes = normalised_label(row.label)

    def skipped(reason: str) -> Skipped:
        return Skipped(subject, name, label, f"{reason} (row {row.line} of the sheet)")

    if not (subject and row.name and label):
        what = "subject" if not subject else "file name" if not row.name else "emotion"
        return skipped(f"there is no {what}")
    if row.onset is None or row.offset is None:
        return skipped(f"there is no {'onset' if row.onset is None else 'offset'} frame")
    if row.onset > row.offset:
        return skipped(f"its onset, {row.onset}, is after its offset, {row.offset}")
    if folder is None:
        return skipped(f"there is no folder of frames, and no video file, for {row.name} of subject {subject}")
    if is_video(folder):
        if row.onset == 0:
            return skipped("its onset is 0, but the frames of a video file count from 1")
        return _video_file(release, subject, name, row, label, fixes, folder)
    found = frame_files(folder)
    reason = too_few(found, row.onset, row.offset)
    if reason is not None and (subject, name) not in release.incomplete:
        return skipped(reason)
    frames, apex, cut_fixes = cut(found, row.onset, row.offset, row.apex)
    if row.apex is None:
        cut_fixes.append(f"apex is {row.apex_text or 'empty'!r}, taken as not annotated")
    if len(frames) < WINDOW:
        return skipped(f"{len(frames)} frames from onset to offset, at least {WINDOW} are needed")
    fixes = (*fixes, *found.fixes, *cut_fixes)
    fps, units = row.fps or release.fps, row.action_units
    return RawVideo(subject, name, label, release.source, frames, apex, fixes, fps, action_units=units)


def _video_file(
    release: AnnotatedSet, subject: str, name: str, row: Row, label: str, fixes: tuple[str, ...], file: Path
) -> RawVideo | Skipped:
    """Return the video of a row of the sheet whose frames are in a video file."""
    assert row.onset is not None
    assert row.offset is not None
    count = row.offset - row.onset + 1
    if count < WINDOW:
        reason = f"{count} frames from onset to offset, at least {WINDOW} are needed (row {row.line} of the sheet)"
        return Skipped(subject, name, label, reason)
    apex = None if row.apex is None else row.apex - row.onset
    if apex is None or not 0 <= apex < count:
        apex = None
        fixes += (f"apex is {row.apex_text or 'empty'!r}, taken as not annotated",)
    numbers = row.onset, row.offset
    fps, units = row.fps or release.fps, row.action_units
    return RawVideo(subject, name, label, release.source, (file,), apex, fixes, fps, numbers, units)
