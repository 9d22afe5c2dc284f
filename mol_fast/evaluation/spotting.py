"""Spot the movements in recordings, recognise them, and score both as the MEGC challenges do.

The spotter has no parameter that is fitted on data: its constants were chosen on embedded subjects 0 to 7. Each found
interval is recognised by weights that were not trained on its subject, by one window, as `predict` does. The baseline,
flow in its main direction against a moving threshold, sees the same frames, and what it finds is recognised by the same
weights.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from mol_fast.data.clips import normalise_frames
from mol_fast.data.protocols import PROTOCOLS
from mol_fast.data.recordings import Recording, RecordingData
from mol_fast.evaluation.score_weights import Weights
from mol_fast.metrics import (
    Interval,
    SpottedVideo,
    SpottingCounts,
    SpottingScores,
    StrsScore,
    megc_log,
    spotting_scores,
    strs_score,
)
from mol_fast.nn.model import Estimator
from mol_fast.nn.weights import FILE_NAME, WeightsHeader, find_weights
from mol_fast.runs.folder import SCORES, Fold
from mol_fast.spotting import MainDirection, Spotter
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.intervals import KINDS
from mol_fast.utils.names import Subject, label_subjects
from mol_fast.vision.frame_times import moment_frames
from mol_fast.vision.sizes import CROP, MARGIN

if TYPE_CHECKING:
    from lightning_fabric import Fabric

METHODS: Final = ("spotter", "main direction")
"""The spotter, and the baseline."""
_PART = 256  # frames that are read together
Spotted = dict[str, tuple[Interval, ...]]
"""Found intervals of each method, in order of time."""
Labels = dict[str, tuple[str, ...]]
"""Class of each found interval of each method."""


@dataclass(frozen=True)
class Recogniser:
    """Weights that recognise the movements of subjects that they were not trained on.

    Attributes:
        seed: seed of their training.
        file: the weights.
        classes: their classes.
        protocol: protocol of their training, None if unknown.
        subjects: the subjects.
    """

    seed: int
    file: Path
    classes: tuple[str, ...]
    protocol: str | None
    subjects: frozenset[Subject]

    def class_of(self, recording: Recording, label: str | None) -> str | None:
        """Return the class of an annotated label; None if the protocol leaves it out or does not know it."""
        if label is None:
            return None
        protocol = PROTOCOLS.get(self.protocol or "")
        if protocol is None:
            return label if label in self.classes else None
        if protocol.parts and recording.source not in protocol.parts:
            return None
        return protocol.part(recording.source).mapping.get(label)


@dataclass(frozen=True)
class LongResults:
    """What was found in recordings, and what it was recognised as.

    Attributes:
        recordings: the recordings.
        spotted: what each method found in each of them.
        recognisers: weights, none if nothing was recognised.
        labels: the classes, by recogniser and recording, of the recordings whose subjects it was not trained on.
    """

    recordings: tuple[Recording, ...]
    spotted: tuple[Spotted, ...]
    recognisers: tuple[Recogniser, ...] = ()
    labels: tuple[Mapping[int, Labels], ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Seeds of the recognisers."""
        return sorted({item.seed for item in self.recognisers})

    @property
    def recognised(self) -> int:
        """Number of recordings whose movements were recognised."""
        return len({place for places in self.labels for place in places})

    def videos(self, method: str) -> list[SpottedVideo]:
        """Return all recordings as scores of spotting take them."""
        names = _log_names(self.recordings)
        return [
            _video(name, recording, recording.intervals, found[method])
            for name, recording, found in zip(names, self.recordings, self.spotted, strict=True)
        ]

    def spotting(self, method: str) -> SpottingScores:
        """Return the scores of spotting."""
        return spotting_scores(self.videos(method))

    def strs(self, method: str, kinds: Sequence[Any] = KINDS) -> dict[int, StrsScore]:
        """Return the score of spotting and recognition by seed, over the recordings that were recognised.

        A seed without an interval of the kinds is left out.
        """
        names = _log_names(self.recordings)
        scores = {}
        for seed in self.seeds:
            videos = []
            for recogniser, places in zip(self.recognisers, self.labels, strict=True):
                for place, labels in places.items() if recogniser.seed == seed else ():
                    recording, found = self.recordings[place], self.spotted[place][method]
                    true = [
                        replace(one, label=recogniser.class_of(recording, one.label)) for one in recording.intervals
                    ]
                    told = [replace(one, label=label) for one, label in zip(found, labels[method], strict=True)]
                    videos.append(_video(names[place], recording, true, told))
            if any(one.kind in kinds for video in videos for one in (*video.true, *video.found)):
                scores[seed] = strs_score(videos, kinds)
        return scores

    def to_dict(self) -> dict[str, Any]:
        """Return scores and intervals as plain values."""
        return {
            "methods": {method: self._scores(method) for method in METHODS},
            "weights": [
                {"seed": item.seed, "file": str(item.file), "protocol": item.protocol, "classes": item.classes}
                for item in self.recognisers
            ],
            "recordings": [self._told(place) for place in range(len(self.recordings))],
        }

    def write(self, folder: Path) -> None:
        """Write spotting.json, and the log of the MEGC challenges for the spotter and for the baseline."""
        write_atomic(folder / "spotting.json", json.dumps(self.to_dict(), indent=1) + "\n")
        write_atomic(folder / "megc_spotting.log", megc_log(self.videos(METHODS[0])))
        write_atomic(folder / "megc_spotting_baseline.log", megc_log(self.videos(METHODS[1])))

    def _scores(self, method: str) -> dict[str, Any]:
        scores = self.spotting(method)
        kinds = {name: _counts(counts) for name, counts in (*_kinds(scores), ("both", scores.both))}
        rates = {name: getattr(scores, name) for name in ("minutes", "found_per_minute", "false_per_minute")}
        strs = {
            name: [{"seed": seed, **_strs(score)} for seed, score in self.strs(method, of).items()]
            for name, of in (("micro", KINDS[:1]), ("both", KINDS))
        }
        return {**kinds, **rates, "strs": strs}

    def _told(self, place: int) -> dict[str, Any]:
        recording = self.recordings[place]
        found = {method: [asdict(one) for one in self.spotted[place][method]] for method in METHODS}
        labels = [
            {"seed": item.seed, **places[place]}
            for item, places in zip(self.recognisers, self.labels, strict=True)
            if place in places
        ]
        return {
            "subject": recording.subject,
            "recording": recording.name,
            "source": recording.source,
            "first": recording.first,
            "frames": recording.frames,
            "fps": recording.fps,
            "true": [asdict(one) for one in recording.intervals],
            "found": found,
            "classes": labels,
        }


def spot_recording(recording: Recording, on_frames: Callable[[int], object] = lambda count: None) -> Spotted:
    """Spot the movements in a recording by both methods. Memory does not grow with its length.

    Args:
        recording: the recording.
        on_frames: called with the number of frames that are done.

    Raises:
        UserError: its file cannot be used.
    """
    data = recording.read()
    spotter, baseline = Spotter(), MainDirection()
    moments = []
    for start in range(0, len(data.numbers), _PART):
        part = RecordingData(*(tensor[start : start + _PART] for tensor in data))
        for frame, landmarks, number, time in zip(*(tensor.numpy() for tensor in part[:4]), strict=True):
            moments += spotter.add(frame, landmarks, float(time), int(number))
            baseline.add(frame, landmarks, float(time), int(number))
        on_frames(start + len(part.numbers))
    moments += spotter.finish()
    return dict(zip(METHODS, (tuple(moment.interval for moment in moments), tuple(baseline.finish())), strict=True))


def spot_recordings(
    recordings: Sequence[Recording], on_frames: Callable[[int], object] = lambda done: None
) -> LongResults:
    """Spot the movements in recordings, one after the other.

    Args:
        recordings: the recordings.
        on_frames: called with the number of frames of all recordings that are done.

    Raises:
        UserError: a file cannot be used.
    """
    spotted = []
    before = 0
    for recording in recordings:
        spotted.append(spot_recording(recording, partial(_reach, on_frames, before)))
        before += recording.frames
    return LongResults(tuple(recordings), tuple(spotted))


def _reach(on_frames: Callable[[int], object], before: int, done: int) -> None:
    on_frames(before + done)


def find_recognisers(path: Path, recordings: Sequence[Recording]) -> tuple[list[Recogniser], list[str]]:
    """Find weights for the subjects of recordings in a run, a fold or a file.

    Of a run with several folds, a subject is recognised by the fold that holds it out; by the first fold of each seed
    that was not trained on it, if none does. Folds that are not finished are not used.

    Returns:
        The weights, and warnings.

    Raises:
        UserError: there are no weights, they cannot be used, or all were trained on all subjects.
    """
    subjects = sorted({recording.person for recording in recordings})
    folds = sorted(path.glob(f"folds/*/{FILE_NAME}")) if path.is_dir() and not (path / FILE_NAME).is_file() else []
    chosen: dict[tuple[int, Subject], tuple[bool, Path]] = {}
    headers: dict[Path, WeightsHeader] = {}  # not the weights: a run may have gigabytes
    unknown = False
    unfinished = []
    for file in folds or [find_weights(path)]:
        try:
            seed = Fold.of_earlier(file.parent.name).seed if folds else 0
        except ValueError as error:
            raise UserError(f"{file} is of no fold ({error}): move its folder out of {path}") from None
        if folds and not (file.parent / SCORES).is_file():
            unfinished.append(file.parent.name)
            continue
        weights = Weights.load(file)
        headers[file] = weights.header
        unknown = unknown or weights.trained_on is None
        for subject in subjects:
            names = {subject, str(subject)}
            if weights.trained_on is not None and not weights.trained_on.isdisjoint(names):
                continue
            held_out = not names.isdisjoint(weights.header.test_subjects)
            if (seed, subject) not in chosen or (held_out and not chosen[seed, subject][0]):
                chosen[seed, subject] = held_out, file
    if not headers:
        raise UserError(f"no fold of {path} is finished: repeat its train command, which resumes it")
    if not chosen:
        raise UserError(
            f"{path} was trained on all {len(subjects)} subjects of the recordings: give weights of a run that holds "
            "them out, as with train --folds all"
        )
    found = []
    for file, header in headers.items():
        for seed in sorted({seed for (seed, _), (_, of) in chosen.items() if of == file}):
            of = frozenset(person for (number, person), (_, at) in chosen.items() if (number, at) == (seed, file))
            found.append(Recogniser(seed, file, header.classes, header.protocol, of))
    warnings = [f"Folds that are not finished are not used: {', '.join(unfinished)}."] if unfinished else []
    if len({item.classes for item in found}) > 1:
        raise UserError(f"the folds of {path} have different classes: give the folder of one run")
    if missing := [
        name for person, name in label_subjects(subjects).items() if not any(person in r.subjects for r in found)
    ]:
        warnings.append(f"All weights were trained on {', '.join(missing)}: STRS is without these subjects.")
    if unknown:
        warnings.append(
            "It is unknown which subjects some weights were trained on: do not report STRS of new subjects."
        )
    return found, warnings


def recognise(
    results: LongResults,
    recognisers: Sequence[Recogniser],
    fabric: "Fabric",
    batch_size: int,
    on_recording: Callable[[], object] = lambda: None,
) -> LongResults:
    """Recognise what was spotted, each recording by the weights that were not trained on its subject.

    Raises:
        UserError: weights or a recording cannot be used, or a model returns non-finite values.
    """
    every = []
    for recogniser in recognisers:
        model = Weights.load(recogniser.file).model.to(fabric.device).eval()
        places: dict[int, Labels] = {}
        for place, recording in enumerate(results.recordings):
            if recording.person in recogniser.subjects:
                data = recording.read()
                places[place] = {
                    method: _classes(model, recogniser, data, found, fabric, batch_size)
                    for method, found in results.spotted[place].items()
                }
                on_recording()
        every.append(places)
    return replace(results, recognisers=tuple(recognisers), labels=tuple(every))


@torch.inference_mode()
def _classes(
    model: Estimator,
    recogniser: Recogniser,
    data: RecordingData,
    spans: Sequence[Interval],
    fabric: "Fabric",
    batch: int,
) -> tuple[str, ...]:
    """Return the class of each interval, by one window: 8 frames evenly spaced in time from onset to offset."""
    classes: list[str] = []
    for start in range(0, len(spans), batch):
        windows = torch.stack([_window(data, span) for span in spans[start : start + batch]])
        with fabric.autocast():
            logits = model(normalise_frames(windows.to(fabric.device))[:, None]).logits
        if not torch.isfinite(logits).all():
            raise UserError(f"{recogniser.file} returns non-finite values: train it again")
        classes += [recogniser.classes[best] for best in logits.argmax(-1).tolist()]
    return tuple(classes)


def _window(data: RecordingData, span: Interval) -> Tensor:
    """Return the frames (8, 128, 128) of the window of an interval, the same that `predict` reads of a moment."""
    numbers, times = data.numbers.numpy(), data.times.numpy()
    first, last = np.searchsorted(numbers, span.onset), np.searchsorted(numbers, span.offset, "right") - 1
    rows = moment_frames(times, int(first), int(max(first, last)))
    frames, _ = data.clip(rows)
    return frames[:, MARGIN : MARGIN + CROP, MARGIN : MARGIN + CROP]


def _video(name: str, recording: Recording, true: Sequence[Interval], found: Sequence[Interval]) -> SpottedVideo:
    end = recording.first + recording.frames
    return SpottedVideo(name, tuple(true), tuple(found), end, recording.fps, recording.first)


def _log_names(recordings: Sequence[Recording]) -> list[str]:
    """Return the names in the log: those of the recordings, with the subject where two are the same."""
    times = Counter(recording.name for recording in recordings)
    return [item.name if times[item.name] == 1 else f"{item.subject}_{item.name}" for item in recordings]


def _kinds(scores: SpottingScores) -> Iterator[tuple[str, SpottingCounts]]:
    yield from (("micro", scores.micro), ("macro", scores.macro))


def _counts(counts: SpottingCounts) -> dict[str, Any]:
    ratios = {name: getattr(counts, name) for name in ("f1", "precision", "recall")}
    return {**asdict(counts), **ratios}


def _strs(score: StrsScore) -> dict[str, Any]:
    found = score.recognition
    return {
        "strs": score.strs,
        "spotting_f1": score.spotting,
        "recognition_uf1": None if found is None else found.uf1,
        "recognition_uar": None if found is None else found.uar,
        "recognised": 0 if found is None else int(np.sum(found.confusion)),
    }
