"""Scores of spotting as the MEGC challenges define them, of spotting and recognition together (STRS), and the log.

A found interval is right if its intersection over union with a true one of its kind is at least 0.5; each true interval
counts once. F1 comes from counts over the whole set, never from a mean over videos. Published methods spot real long
videos with an F1 of a few hundredths, so a score on synthetic videos says little about real ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from mol_fast.metrics.recognition import Recognition, confusion_matrix, recognition_scores
from mol_fast.utils.intervals import KINDS, Interval, Kind, Match, check_intervals, match_intervals


@dataclass(frozen=True)
class SpottedVideo:
    """True and found intervals of a long video.

    Attributes:
        name: the video, as the log names it.
        true, found: intervals in any order; those of one kind share no frame.
        end: number of the frame after the last one.
        fps: frames per second.
        first: number of the first frame.

    Raises:
        UserError: an interval runs backwards, lies outside the video or overlaps another of its kind.
        ValueError: `fps` is not positive.
    """

    name: str
    true: tuple[Interval, ...]
    found: tuple[Interval, ...]
    end: int
    fps: float
    first: int = 0

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ValueError(f"fps must be positive, got {self.fps}")
        check_intervals(self.true, self.end, f"the annotation of {self.name}", self.first)
        check_intervals(self.found, self.end, f"what was found in {self.name}", self.first)

    @property
    def matches(self) -> list[Match]:
        """See `match_intervals`."""
        return match_intervals(self.true, self.found)


@dataclass(frozen=True)
class SpottingCounts:
    """Counts of intervals. Ratios with denominator 0 are None.

    Attributes:
        hits: true intervals that were found (TP).
        false: found intervals that fit no true one (FP).
        missed: true intervals that were not found (FN).
    """

    hits: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: "SpottingCounts") -> "SpottingCounts":
        return SpottingCounts(self.hits + other.hits, self.false + other.false, self.missed + other.missed)

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN), 0..1."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false + self.missed)

    @property
    def precision(self) -> float | None:
        """Share of found intervals that are right, 0..1."""
        return _ratio(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float | None:
        """Share of true intervals that were found, 0..1."""
        return _ratio(self.hits, self.hits + self.missed)


@dataclass(frozen=True)
class SpottingScores:
    """Scores of spotting over a set of videos.

    Attributes:
        micro, macro: counts of one kind.
        both: their sum; an interval that was found with the wrong kind is false, and the true one is missed.
        minutes: length of all videos.
        found_per_minute, false_per_minute: found intervals of both kinds, right or not, and false ones alone.
    """

    micro: SpottingCounts
    macro: SpottingCounts
    both: SpottingCounts
    minutes: float
    found_per_minute: float
    false_per_minute: float


@dataclass(frozen=True)
class StrsScore:
    """Spot, then recognise: F1 of spotting x UF1 of recognition over what was spotted, each 0..1.

    Attributes:
        spotting: F1 of spotting.
        recognition: scores over the intervals with a label that were spotted; None if none was.
        strs: the product; 0 if nothing was spotted.
    """

    spotting: float
    recognition: Recognition | None
    strs: float


def spotting_scores(videos: Sequence[SpottedVideo]) -> SpottingScores:
    """Return the scores of spotting over a set of videos.

    Raises:
        ValueError: there is no video, or all are empty.
    """
    minutes = sum((video.end - video.first) / video.fps for video in videos) / 60
    if not minutes > 0:
        raise ValueError("there is no video to score")
    matches = [match for video in videos for match in video.matches]
    micro, macro = (_counts(matches, kind) for kind in KINDS)
    both = micro + macro
    return SpottingScores(micro, macro, both, minutes, (both.hits + both.false) / minutes, both.false / minutes)


def strs_score(videos: Sequence[SpottedVideo], kinds: Iterable[Kind] = KINDS) -> StrsScore:
    """Return the score of spotting and recognition together (STRS, MEGC 2022).

    Args:
        videos: with a label for every found interval of `kinds` that is right. A true interval without a label counts
            in spotting, not in recognition.
        kinds: kinds that count.

    Raises:
        ValueError: a found interval has no label, or there is no interval.
    """
    kinds = tuple(kinds)
    matches = [match for video in videos for match in video.matches if _kind(match) in kinds]
    spotting = sum((_counts(matches, kind) for kind in kinds), SpottingCounts()).f1
    if spotting is None:
        raise ValueError("there is no interval to score")
    labels = [
        (_label(match.true), _label(match.found))
        for match in matches
        if match.true and match.found and match.true.label
    ]
    if not labels:
        return StrsScore(spotting, None, 0.0)
    classes = sorted({label for pair in labels for label in pair})
    places = torch.tensor([[classes.index(label) for label in pair] for pair in labels])
    recognition = recognition_scores(confusion_matrix(places[:, 1], places[:, 0], len(classes)), classes)
    return StrsScore(spotting, recognition, spotting * recognition.uf1)


def megc_log(videos: Iterable[SpottedVideo]) -> str:
    """Return the log of spotting that the MEGC challenges ask for.

    For each video a line with its name, then a line for each match, in order of frames, with tabs between: video, true
    onset and offset, found onset and offset, and TP, FP or FN; "-" stands for none. Frames have the numbers of the
    intervals, which for a prepared set are those of the release.
    """
    return "".join(
        "".join([f"{video.name}\n", *(_log_line(video.name, match) for match in video.matches)]) for video in videos
    )


def _log_line(name: str, match: Match) -> str:
    cells = [cell for interval in match for cell in ((interval.onset, interval.offset) if interval else ("-", "-"))]
    outcome = "TP" if match.true and match.found else "FN" if match.true else "FP"
    return "\t".join(map(str, [name, *cells, outcome])) + "\n"


def _counts(matches: Iterable[Match], kind: Kind) -> SpottingCounts:
    here = [match for match in matches if _kind(match) == kind]
    hits = sum(bool(match.true and match.found) for match in here)
    false = sum(match.true is None for match in here)
    return SpottingCounts(hits, false, len(here) - hits - false)


def _kind(match: Match) -> Kind | None:
    interval = match.true or match.found
    return interval.kind if interval else None


def _label(interval: Interval) -> str:
    if interval.label is None:
        raise ValueError(f"the {interval.kind} interval {interval.onset} to {interval.offset} has no label")
    return interval.label


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
