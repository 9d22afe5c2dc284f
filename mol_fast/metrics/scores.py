"""Collect predictions of an evaluation, and score recognition, flow, landmarks and action units together."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mol_fast.metrics.flow import FlowScores, FlowSums, flow_sums
from mol_fast.metrics.landmarks import LandmarkScores, LandmarkSums, landmark_sums
from mol_fast.metrics.recognition import Recognition, confusion_matrix, recognition_scores, video_scores
from mol_fast.metrics.units import UnitScores, unit_scores
from mol_fast.utils.names import VideoId


@dataclass(frozen=True)
class Scores:
    """All scores of one evaluation; flow, landmarks or units are None if not predicted, units also if not annotated."""

    recognition: Recognition
    flow: FlowScores | None
    landmarks: LandmarkScores | None
    units: UnitScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries, ready for JSON."""
        return asdict(self)

    def summary(self) -> dict[str, float]:
        """Return the main scores by name: ratios from 0 to 1, end-point errors in pixels, landmark error in %.

        Names with "zero_flow" are errors of predicting no motion. "end_point_error_moving_share" is error / zero-flow
        error over moving pixels; above 1 is worse than predicting no motion. Scores of flow or landmarks are missing
        if these were not predicted; scores of moving pixels are missing if nothing moves. "unit_f1" is the mean F1 of
        action units; it is missing if none was predicted, or none occurs.
        """
        values = {
            "accuracy": self.recognition.accuracy,
            "uf1": self.recognition.uf1,
            "uar": self.recognition.uar,
            "wf1": self.recognition.wf1,
        }
        if self.flow is not None:
            values["end_point_error"] = self.flow.error
            values["end_point_error_zero_flow"] = self.flow.zero_error
            if self.flow.moving_error is not None and self.flow.moving_zero_error is not None:
                values["end_point_error_moving"] = self.flow.moving_error
                values["end_point_error_moving_zero_flow"] = self.flow.moving_zero_error
                values["end_point_error_moving_share"] = self.flow.moving_error / self.flow.moving_zero_error
        if self.landmarks is not None:
            values["landmark_error"] = self.landmarks.error
            values["landmark_failure_rate"] = self.landmarks.failure_rate
        if self.units is not None and self.units.f1 is not None:
            values["unit_f1"] = self.units.f1
        return values


@dataclass(frozen=True)
class LabelledWindow:
    """Probabilities of one window, one per class, with the identity and true class of its video.

    If action units were predicted, also `units`, the probability of each, and `units_true`, see `unit_truth`.
    """

    video: VideoId
    label: int
    probabilities: tuple[float, ...]
    units: tuple[float, ...] = ()
    units_true: tuple[int, ...] = ()


@dataclass(frozen=True)
class VideoPrediction:
    """Prediction for one video, averaged over its windows.

    Attributes:
        video: identity of the video.
        label: true class.
        predicted: class with the highest mean probability; the first one if several are equal.
        probabilities: mean over windows, one per class.
        windows: number of windows.
        units: mean probability of each action unit; empty if none was predicted.
        units_true: what the annotation says about each, see `mol_fast.vision.facs.unit_truth`.
    """

    video: VideoId
    label: int
    predicted: int
    probabilities: tuple[float, ...]
    windows: int
    units: tuple[float, ...] = ()
    units_true: tuple[int, ...] = ()


class Evaluation:
    """Collects predictions batch by batch, from one or several folds, and scores them together.

    Windows of one video may come in several batches.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.flow = FlowSums()
        self.landmarks = LandmarkSums()
        self._probabilities: list[Tensor] = []
        self._videos: list[VideoId] = []
        self._labels: dict[VideoId, int] = {}
        self._units: list[Tensor] = []  # (W, 12), or (W, 0) without action units
        self._units_true: dict[VideoId, tuple[int, ...]] = {}

    def update(
        self,
        logits: Tensor,
        labels: Tensor,
        videos: Sequence[VideoId],
        flow: Tensor | None,
        flow_true: Tensor,
        landmarks: Tensor | None,
        landmarks_true: Tensor,
        units: Tensor | None = None,
        units_true: Tensor | None = None,
    ) -> None:
        """Add a batch of B windows, on any device.

        Args:
            logits: (B, K).
            labels: (B,) true classes, 0..K-1, the same for all windows of a video.
            videos: the video of each window.
            flow, flow_true: (B, 2, T-1, H, W), pixels; flow is None if not predicted.
            landmarks, landmarks_true: (B, T-1, 68, 2), pixels, of frames 1..T-1; landmarks is None if not predicted.
            units, units_true: (B, 12), logits of action units, and what the annotation of the video says, see
                `mol_fast.vision.facs.unit_truth`; units is None if not predicted.

        Raises:
            ValueError: shapes do not fit, a value is not finite, a label is out of range, a video has two labels or
                annotations, or only some windows have action units. Then nothing of the batch is added.
        """
        if logits.shape != (len(videos), len(self.classes)) or labels.shape != (len(videos),):
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} must be (B, {len(self.classes)}) "
                f"and (B,) for {len(videos)} videos"
            )
        if not logits.isfinite().all():
            raise ValueError("logits has values that are not finite")
        if units is None or units_true is None:
            units, units_true = logits[:, :0], labels[:, None][:, :0]
        if units.shape != units_true.shape or not units.isfinite().all():
            raise ValueError(f"units {tuple(units.shape)} must be finite, with a truth of the same shape")
        known = self._with_labels(videos, labels.tolist())
        annotated = self._with_units(videos, map(tuple, units_true.tolist()), units.shape[1])
        flow_part = FlowSums() if flow is None else flow_sums(flow, flow_true)
        landmark_part = LandmarkSums() if landmarks is None else landmark_sums(landmarks, landmarks_true)

        self._labels = known
        self._videos += videos
        self._probabilities.append(logits.detach().double().softmax(1).cpu())
        self._units_true = annotated
        self._units.append(units.detach().double().sigmoid().cpu())
        self.flow += flow_part
        self.landmarks += landmark_part

    def merge(self, other: "Evaluation") -> None:
        """Add everything that `other` collected, for example in another fold.

        Raises:
            ValueError: the classes differ, only one of them has action units, or a video has two labels or annotations.
                Then nothing is added.
        """
        if other.classes != self.classes:
            raise ValueError(f"classes must be {self.classes}, got {other.classes}")
        known = self._with_labels(other._labels, other._labels.values())
        if other._units:
            given = other._units_true
            self._units_true = self._with_units(given, given.values(), other._units[0].shape[1])
        self._labels = known
        self._units += other._units
        self._videos += other._videos
        self._probabilities += other._probabilities
        self.flow += other.flow
        self.landmarks += other.landmarks

    def windows(self) -> list[LabelledWindow]:
        """Return the predictions of all windows, in the order of addition."""
        if not self._videos:
            return []
        rows, units = torch.cat(self._probabilities).tolist(), torch.cat(self._units).tolist()
        return [
            LabelledWindow(video, self._labels[video], tuple(row), tuple(of_units), self._units_true[video])
            for video, row, of_units in zip(self._videos, rows, units, strict=True)
        ]

    @classmethod
    def restored(
        cls, classes: Sequence[str], windows: Sequence[LabelledWindow], flow: FlowSums, landmarks: LandmarkSums
    ) -> "Evaluation":
        """Restore the evaluation that returned `windows` and had these sums.

        Raises:
            ValueError: the windows do not fit the classes.
        """
        evaluation = cls(classes)
        evaluation.add_windows(windows)
        evaluation.flow, evaluation.landmarks = flow, landmarks
        return evaluation

    def sums(self) -> dict[str, dict[str, Any]]:
        """Return the sums behind the errors of flow and landmarks, ready for JSON."""
        return {"flow": asdict(self.flow), "landmarks": asdict(self.landmarks)}

    def add_windows(self, windows: Sequence[LabelledWindow]) -> None:
        """Add windows as returned by `windows`. Sums of flow and landmarks are set separately.

        Raises:
            ValueError: a label is out of range, a video has two labels or annotations, or only some windows have action
                units. Then nothing is added.
        """
        if not windows:
            return
        videos = [window.video for window in windows]
        sizes = {len(window.units) for window in windows} | {len(window.units_true) for window in windows}
        if len(sizes) > 1:
            raise ValueError("some windows have action units, others have not")
        known = self._with_labels(videos, [window.label for window in windows])
        self._units_true = self._with_units(videos, [window.units_true for window in windows], min(sizes))
        self._labels = known
        self._videos += videos
        self._units.append(torch.tensor([window.units for window in windows], dtype=torch.float64))
        self._probabilities.append(torch.tensor([window.probabilities for window in windows], dtype=torch.float64))

    def videos(self) -> list[VideoPrediction]:
        """Return the predictions of all videos, in order of first appearance."""
        if not self._videos:
            return []
        names, probabilities = video_scores(torch.cat(self._probabilities), self._videos)
        _, units = video_scores(torch.cat(self._units), self._videos)
        predicted = probabilities.argmax(1).tolist()
        windows = Counter(self._videos)
        rows = zip(names, predicted, probabilities.tolist(), units.tolist(), strict=True)
        return [
            VideoPrediction(
                name, self._labels[name], best, tuple(row), windows[name], tuple(of_units), self._units_true[name]
            )
            for name, best, row, of_units in rows
        ]

    def compute(self) -> Scores:
        """Score everything that was added.

        Raises:
            ValueError: nothing was added.
        """
        videos = self.videos()
        if not videos:
            raise ValueError("there are no videos to score")
        units = torch.tensor([video.units for video in videos], dtype=torch.float64)
        return Scores(
            self._recognition(videos),
            self.flow.scores() if self.flow.pixels else None,
            self.landmarks.scores() if self.landmarks.frames else None,
            unit_scores(units, torch.tensor([video.units_true for video in videos])),
        )

    def parts(self) -> dict[str, Recognition]:
        """Return the recognition scores of each source alone, sorted; empty if all videos come from one source.

        They are the parts of a composite, such as CASME II, SAMM and SMIC in MEGC 2019.
        """
        sources: dict[str, list[VideoPrediction]] = {}
        for video in self.videos():
            sources.setdefault(video.video.source, []).append(video)
        return {name: self._recognition(sources[name]) for name in sorted(sources)} if len(sources) > 1 else {}

    def _recognition(self, videos: Sequence[VideoPrediction]) -> Recognition:
        confusion = confusion_matrix(
            torch.tensor([video.predicted for video in videos]),
            torch.tensor([video.label for video in videos]),
            len(self.classes),
        )
        return recognition_scores(confusion, self.classes)

    def _with_labels(self, videos: Iterable[VideoId], labels: Iterable[int]) -> dict[VideoId, int]:
        known = dict(self._labels)
        for video, label in zip(videos, labels, strict=True):
            if not 0 <= label < len(self.classes):
                raise ValueError(f"label {label} of video {video} is not one of {len(self.classes)} classes")
            if known.setdefault(video, label) != label:
                raise ValueError(f"video {video} has two labels, {known[video]} and {label}")
        return known

    def _with_units(
        self, videos: Iterable[VideoId], truths: Iterable[tuple[int, ...]], size: int
    ) -> dict[VideoId, tuple[int, ...]]:
        if self._units and self._units[0].shape[1] != size:
            raise ValueError("some windows have action units, others have not")
        known = dict(self._units_true)
        for video, truth in zip(videos, truths, strict=True):
            if known.setdefault(video, truth) != truth:
                raise ValueError(f"video {video} has two annotations of action units")
        return known
