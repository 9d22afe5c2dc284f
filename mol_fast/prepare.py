"""The program that prepares the raw release of a data set: `python -m mol_fast.prepare`."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from mol_fast.cli import progress, run_program
from mol_fast.data.protocols import PROTOCOLS, get_protocol
from mol_fast.preparation.folders import list_folders, list_table
from mol_fast.preparation.layouts import SHEET_LAYOUTS, list_smic, list_with_sheet
from mol_fast.preparation.long_layouts import LONG_LAYOUTS, LongLayout, list_long
from mol_fast.preparation.long_set import long_manifest, prepare_long_set
from mol_fast.preparation.one_video import Align, Settings
from mol_fast.preparation.release import Listing
from mol_fast.preparation.trees import TREE_LAYOUTS, list_tree
from mol_fast.preparation.whole_set import CountMismatch, make_plan, prepare_set
from mol_fast.preparation.workers import Outcome
from mol_fast.utils.device import choose_device
from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import MOST_FPS, MOST_WORKERS
from mol_fast.vision.face_models import face_models
from mol_fast.vision.finders import Finders, least_score, open_finder

_Clips = Literal["casme", "casme2", "casme3", "casme3-c", "samm", "smic", "mmew", "4dme", "dfme", "folders"]
_Long = Literal["casme-sq", "casme3-long", "samm-lv", "smic-long"]
Dataset = _Clips | _Long


@dataclass(frozen=True)
class Options:
    """Options of the program.

    Attributes:
        root: Folder of the raw release. For "folders" also a .csv table with the columns path, subject, label.
        out: Folder of the prepared set.
        protocol: Prepare only the videos of this protocol, and stop if the counts differ from it. Default: prepare all
            annotated videos.
        sheet: Annotation sheet (.xlsx, .xls or .csv), of all data sets but smic and folders. Default: search the
            release.
        name: Name of the set. Default: the name of the data set, or of the root for "folders".
        fps: Frames per second of the videos. Default: 60 for casme, 200 for casme2 and samm, 30 for casme3 and
            casme3-c, 100 for smic, that of the sheet for dfme; the rate of video files; else unknown. It tells predict
            how long a window of the training was. Of long videos: 30 for casme-sq and casme3-long, 200 for samm-lv, 100
            for smic-long; the rate of video files.
        align: "clip" aligns all frames by the landmarks of the first frame. "frame" aligns every frame by its own
            landmarks, as the paper's official code does; this makes a still face move.
        faces: Finder of faces: mediapipe, or dlib with its 68-point predictor (its weights are not for commercial
            use).
        min_score: Smallest score of a face. Default: 0.5 of 1 for mediapipe; 0.2 for dlib, where clear frontal faces
            have about 1 or more.
        workers: Number of processes. Default: the number of processor cores.
        device: Device that computes flow: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
        allow_count_mismatch: Continue even if the counts differ from the protocol.
        macro: Of long videos, make clips of macro-expressions, too, to train on. Default: of micro-expressions only.
            Recordings and annotations hold both.
        list_only: Only list the videos and compare counts; write nothing.
    """

    root: Path
    out: Path
    protocol: str | None = None
    sheet: Path | None = None
    name: str | None = None
    fps: float | None = None
    align: Align = "clip"
    faces: Finders = "mediapipe"
    min_score: float | None = None
    workers: int | None = None
    device: str = "auto"
    allow_count_mismatch: bool = False
    macro: bool = False
    list_only: bool = False


def main(argv: list[str] | None = None) -> int:
    """Run the program and return the exit code: 0, 2 (user error), 3 (counts differ), 130 (interrupted)."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # print no messages beside the one error
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    return run_program(run, argv, "prepare", "all")


def run(dataset: Dataset, /, prepare: Options) -> None:
    """Prepare the raw release of a data set: aligned frames, landmarks and TV-L1 flow of every video.

    OUT receives one file per video, index.csv, set.json, summary.txt, contact_sheet.png, and a manifest that lists
    every annotated video with its fixes and the reason if it is not used. The same command resumes an interrupted run.
    The exit code is 3 if the counts differ from the protocol's. Long videos are kept whole, for spotting, beside the
    clips of their annotated micro-expressions; recordings.csv and intervals.csv list them.

    Args:
        dataset: CASME, CASME II, part A (casme3) or C (casme3-c) of CAS(ME)^3, SAMM, SMIC-HS, MMEW, 4DME or DFME in
            the layout of their releases, or folders CLASS/SUBJECT_CLIP of any set; or the long videos of CAS(ME)^2
            (casme-sq), CAS(ME)^3 (casme3-long), SAMM (samm-lv) or SMIC-E (smic-long).
        prepare: Options of the program.

    Raises:
        UserError: an option or the release cannot be used.
        CountMismatch: the counts differ from the protocol's.
    """
    options = prepare
    workers = min(os.cpu_count() or 1, MOST_WORKERS) if options.workers is None else options.workers
    if not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"--workers must be from 1 to {MOST_WORKERS}, got {workers}")
    if options.fps is not None and not 0 < options.fps <= MOST_FPS:
        raise UserError(f"--fps is {options.fps}, must be positive and at most {MOST_FPS}")
    least = least_score(options.faces, options.min_score)
    settings = Settings(options.align, options.faces, least, str(choose_device(options.device)), options.macro)
    if options.out.resolve().is_relative_to(options.root.resolve()):
        raise UserError(f"--out {options.out} is inside the release {options.root}; give a folder outside")
    if dataset in LONG_LAYOUTS:
        _prepare_long(LONG_LAYOUTS[dataset], options, settings, workers)
        return
    if options.macro:
        raise UserError(
            f"--macro does not apply to {dataset}, only to long videos ({', '.join(LONG_LAYOUTS)}): omit it"
        )
    if options.sheet is not None and dataset in ("smic", "folders"):
        where = "which has no sheet: folders tell the labels" if dataset == "smic" else "whose labels --root tells"
        raise UserError(f"--sheet does not apply to {dataset}, {where}; omit it")
    protocol = None if options.protocol is None else get_protocol(options.protocol)
    if protocol is not None and dataset != "folders" and not protocol.part(dataset).is_for(dataset):
        raise UserError(f"the protocol {protocol.name} is not for {dataset}; choose {_choices(dataset)}")
    listing = list_videos(dataset, options)
    plan = make_plan(options.name or listing.source, listing, protocol)
    planned = plan.manifest()
    if options.list_only:
        print(planned.summary(limit=None), end="")
        if not options.allow_count_mismatch and not plan.agrees(planned):
            raise CountMismatch  # the summary has told the differences
        if not plan.chosen:
            raise UserError(_nothing(options, "video", listing))
        return
    if not options.allow_count_mismatch:
        plan.check(planned)
    if not plan.chosen:
        raise UserError(_nothing(options, "video", listing))
    if options.faces == "mediapipe":
        face_models()  # fetched once, before workers want them
    started = time.perf_counter()
    with progress("video", every=50) as begin:
        advance = begin("preparing", len(plan.chosen))
        manifest, outcomes = prepare_set(
            plan,
            options.out,
            settings,
            partial(open_finder, options.faces, least),
            workers,
            options.allow_count_mismatch,
            lambda outcome: advance(),
        )
    print(manifest.summary())
    _print_rate(outcomes, time.perf_counter() - started)
    print(f"written to {options.out}: look at {options.out / 'contact_sheet.png'}")


def _prepare_long(layout: LongLayout, options: Options, settings: Settings, workers: int) -> None:
    """Prepare a set of long videos."""
    if options.protocol is not None:
        raise UserError("--protocol does not apply to long videos: omit it, and give it to train")
    if options.align != "clip":
        raise UserError("--align does not apply to long videos: omit it")
    if options.allow_count_mismatch:
        raise UserError("--allow-count-mismatch does not apply to long videos, whose counts are not compared: omit it")
    listing = list_long(layout, options.root, options.sheet)
    if options.fps is not None:
        listing.recordings = [replace(recording, fps=options.fps) for recording in listing.recordings]
    name = options.name or layout.name
    if options.list_only:
        print(long_manifest(name, listing, options.macro).summary(limit=None), end="")
        if not listing.recordings:
            raise UserError(_nothing(options, "recording", listing))
        return
    if not listing.recordings:
        raise UserError(_nothing(options, "recording", listing))
    if options.faces == "mediapipe":
        face_models()  # fetched once, before workers want them
    started = time.perf_counter()
    with progress("recording", every=10) as begin:
        advance = begin("preparing", len(listing.recordings))
        finder = partial(open_finder, options.faces, settings.min_score)
        manifest, outcomes = prepare_long_set(
            name, layout, listing, options.out, settings, finder, workers, lambda outcome: advance()
        )
    print(manifest.summary())
    seconds = time.perf_counter() - started
    made = [outcome.record for outcome in outcomes if outcome.made]
    frames, kept = sum(record.frames for record in made), len(outcomes) - len(made)
    rate = f"{len(made)} recordings in {seconds:.1f} s: {frames / seconds:.1f} frames/s"
    print(rate + (f"; {kept} were done before" if kept else ""))
    print(f"written to {options.out}")


def list_videos(dataset: Dataset, options: Options) -> Listing:
    """List the videos of a release.

    Raises:
        UserError: the folders do not have the layout of the release.
    """
    listing = _list_videos(dataset, options)
    if options.fps is not None:
        listing.videos = [replace(video, fps=options.fps) for video in listing.videos]
    return listing


def _list_videos(dataset: Dataset, options: Options) -> Listing:
    root = options.root
    if dataset == "smic":
        return list_smic(root)
    if dataset in TREE_LAYOUTS:
        return list_tree(TREE_LAYOUTS[dataset], root, options.sheet)
    if dataset in SHEET_LAYOUTS:
        return list_with_sheet(SHEET_LAYOUTS[dataset], root, options.sheet)
    source = options.name or root.resolve().stem
    return list_table(root, source) if root.suffix.lower() == ".csv" else list_folders(root, source)


def _nothing(options: Options, what: str, listing: Listing) -> str:
    """Return the sentence for a release without anything to prepare."""
    if not (listing.skipped or listing.videos):
        return f"{options.root} has no {what}: sheet and folders list none; check --root and --sheet"
    reasons = "the list above has the reasons" if options.list_only else "--list-only prints the reasons"
    return f"{options.root} has no usable {what}; {reasons}"


def _choices(source: str) -> str:
    """Name the protocols of a data set, including composites."""
    names = [item.name for item in PROTOCOLS.values() if item.is_for(source) or source in item.parts]
    return " or ".join(names)


def _print_rate(outcomes: Sequence[Outcome], seconds: float) -> None:
    made = sum(outcome.made for outcome in outcomes)
    pairs = sum(outcome.pairs for outcome in outcomes)
    rate = f"{made / seconds:.2f} videos/s, {pairs / seconds:.1f} flow pairs/s"
    kept = len(outcomes) - made
    print(f"{made} videos in {seconds:.1f} s: {rate}" + (f"; {kept} were done before" if kept else ""))


if __name__ == "__main__":
    sys.exit(main())
