"""Turn a row of an annotation sheet into a raw video: its frames from onset to offset, or the reason to skip it."""

from dataclasses import dataclass
from pathlib import Path

from mol_fast.preparation.frame_files import SHORT, FrameFiles, cut, frame_files, is_video, too_few, widened_text
from mol_fast.preparation.release import Beside, RawVideo, Skipped, normalised_label
from mol_fast.preparation.sheets import Row
from mol_fast.vision.sizes import WINDOW, widened


@dataclass(frozen=True, kw_only=True)
class AnnotatedSet:
    """A data set with an annotation sheet.

    Attributes:
        source: name of the set.
        subject: format of a subject's name.
        sheets: patterns of the sheet's name, preferred ones first.
        fps: frames per second of the camera; None if unknown, or if the sheet tells it.
        incomplete: (subject, name) of videos that are used although a release lacks many of their frames.
        other_sheets: patterns, in lower case, of names of sheets of another set that fit as well.
    """

    source: str
    subject: str
    sheets: tuple[str, ...]
    fps: float | None
    incomplete: frozenset[tuple[str, str]] = frozenset()
    other_sheets: tuple[str, ...] = ()


def annotated_video(
    release: AnnotatedSet, subject: str, name: str, row: Row, folder: Path | None
) -> RawVideo | Skipped:
    """Return the video of a row of the sheet, or the reason to skip it.

    An offset of 0 was not annotated: the apex is taken. A clip of fewer than 8 frames is widened to 8; one in a video
    file is when it is read.

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
    onset, offset = row.onset, row.end
    if onset is None or offset is None:
        return skipped(f"there is no {'onset' if onset is None else 'offset'} frame")
    if onset > offset:
        return skipped(f"its onset, {onset}, is after its offset, {offset}")
    if offset != row.offset:
        fixes += (f"offset is 0, the apex, {row.apex}, is taken",)
    if folder is None:
        return skipped(f"there is no folder of frames, and no video file, for {row.name} of subject {subject}")
    fps, units = row.fps or release.fps, row.action_units
    if row.fps_text and row.fps is None:
        fixes += (f"frames per second of {row.fps_text!r} in the sheet are no rate, not used",)
    if is_video(folder):
        if onset == 0:
            return skipped("its onset is 0, but the frames of a video file count from 1")
        apex = None if row.apex is None or not onset <= row.apex <= offset else row.apex - onset
        if apex is None:
            fixes += (f"apex is {row.apex_text or 'empty'!r}, taken as not annotated",)
        return RawVideo(
            subject, name, label, release.source, (folder,), apex, fixes, fps, (onset, offset), action_units=units
        )
    found = frame_files(folder)
    frames, apex, cut_fixes = cut(found, onset, offset, row.apex)
    reason = too_few(found, onset, offset)
    if reason is not None and not (frames and (subject, name) in release.incomplete):
        return skipped(reason)
    if len(found.files) < WINDOW:
        return skipped(f"{len(found.files)} frames in its folder, at least {WINDOW} are needed")
    if row.apex is None:
        cut_fixes.append(f"apex is {row.apex_text or 'empty'!r}, taken as not annotated")
    beside: Beside = ((), ())
    if len(frames) < SHORT:
        frames, apex, beside, wider = _widened(found, frames, apex)
        cut_fixes += wider
    fixes = (*fixes, *found.fixes, *cut_fixes)
    return RawVideo(subject, name, label, release.source, frames, apex, fixes, fps, action_units=units, beside=beside)


def _widened(
    found: FrameFiles, frames: tuple[Path, ...], apex: int | None
) -> tuple[tuple[Path, ...], int | None, Beside, list[str]]:
    """Widen a short clip to a window with the frames around it in its folder.

    Also return the new index of the apex, the frames before and after, and a message if it was widened.
    """
    every = tuple(found.files.values())
    first = every.index(frames[0])
    rows = widened(first, first + len(frames), len(every))
    beside = every[max(0, rows.start - WINDOW) : rows.start], every[rows.stop : rows.stop + WINDOW]
    apex = None if apex is None else apex + first - rows.start
    fixes = [widened_text(len(frames))] if len(frames) < WINDOW else []
    return every[rows], apex, beside, fixes
