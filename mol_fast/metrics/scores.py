"""Scores of recognition, optical flow and landmarks together."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mol_fast.metrics.flow import FlowScores, FlowSums, flow_sums
from mol_fast.metrics.landmarks import LandmarkScores, LandmarkSums, landmark_sums
from mol_fast.metrics.recognition import Recognition, confusion_matrix, identifiers, recognition_scores, video_scores


@dataclass(frozen=True)
class Scores:
    """All scores of one evaluation; flow or landmarks are None where they were not predicted."""

    recognition: Recognition
    flow: FlowScores | None
    landmarks: LandmarkScores | None

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries, tuples, numbers and None, ready for JSON."""
        return asdict(self)

    def summary(self) -> dict[str, float]:
        """The main scores by name: ratios from 0 to 1, end-point errors in pixels, landmark error in %.

        Names with "zero_flow" are the errors of predicting no motion. Scores of flow or landmarks are missing where
        these were not predicted, those of moving pixels where nothing moves.
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
        return values


@dataclass(frozen=True)
class LabelledWindow:
    """Probabilities of one window, one per class, of the video with this identifier and true class."""

    video: Hashable
    label: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class VideoPrediction:
    """What the windows of one video say together.

    Attributes:
        video: the identifier that was given.
        label: true class.
        predicted: class of the highest mean probability, the first of several equal ones.
        probabilities: mean over the windows, one per class.
        windows: number of windows.
    """

    video: Hashable
    label: int
    predicted: int
    probabilities: tuple[float, ...]
    windows: int


class Evaluation:
    """Collects predictions batch by batch, from one fold or several, and scores them together.

    Videos are told apart by their identifier alone, so it must be unique over all folds; windows of one video
    may come in several batches.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.flow = FlowSums()
        self.landmarks = LandmarkSums()
        self._probabilities: list[Tensor] = []
        self._videos: list[Hashable] = []
        self._labels: dict[Hashable, int] = {}

    def update(
        self,
        logits: Tensor,
        labels: Tensor,
        videos: Sequence[Hashable] | Tensor,
        flow: Tensor | None,
        flow_true: Tensor,
        landmarks: Tensor | None,
        landmarks_true: Tensor,
    ) -> None:
        """Add a batch of B windows, on any device.

        Args:
            logits: (B, K).
            labels: (B,) true classes, 0..K-1, the same for all windows of a video.
            videos: B identifiers, numbers or anything hashable.
            flow, flow_true: (B, 2, T-1, H, W), pixels; flow is None where it is not predicted.
            landmarks, landmarks_true: (B, T-1, 68, 2), pixels, both of frames 1..T-1; landmarks is None where they are
                not predicted.

        Raises:
            ValueError: shapes do not fit, a value is not finite, a label is out of range, or a video comes with
                two labels. Nothing of the batch is added then.
        """
        names = identifiers(videos)
        if logits.shape != (len(names), len(self.classes)) or labels.shape != (len(names),):
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} must be (B, {len(self.classes)}) "
                f"and (B,) for {len(names)} videos"
            )
        if not logits.isfinite().all():
            raise ValueError("logits has values that are not finite")
        known = self._with_labels(names, labels.tolist())
        flow_part = FlowSums() if flow is None else flow_sums(flow, flow_true)
        landmark_part = LandmarkSums() if landmarks is None else landmark_sums(landmarks, landmarks_true)

        self._labels = known
        self._videos += names
        self._probabilities.append(logits.detach().double().softmax(1).cpu())
        self.flow += flow_part
        self.landmarks += landmark_part

    def merge(self, other: "Evaluation") -> None:
        """Add all that `other` collected, for example another fold.

        Raises:
            ValueError: other classes, or a video with two labels. Nothing is added then.
        """
        if other.classes != self.classes:
            raise ValueError(f"classes {other.classes} are not {self.classes}")
        known = self._with_labels(list(other._labels), list(other._labels.values()))
        self._labels = known
        self._videos += other._videos
        self._probabilities += other._probabilities
        self.flow += other.flow
        self.landmarks += other.landmarks

    def windows(self) -> list[LabelledWindow]:
        """What was predicted for each window so far, in the order in which they came."""
        if not self._videos:
            return []
        rows = torch.cat(self._probabilities).tolist()
        return [
            LabelledWindow(video, self._labels[video], tuple(row))
            for video, row in zip(self._videos, rows, strict=True)
        ]

    @classmethod
    def restored(
        cls, classes: Sequence[str], windows: Sequence[LabelledWindow], sums: Mapping[str, Any]
    ) -> "Evaluation":
        """The evaluation that gave `windows` and `sums`; entries of `sums` other than its two are passed over.

        Raises:
            KeyError, TypeError: `sums` lacks something.
            ValueError: the windows do not fit the classes.
        """
        evaluation = cls(classes)
        evaluation.add_windows(windows)
        evaluation.flow = FlowSums(**sums["flow"])
        evaluation.landmarks = LandmarkSums(**sums["landmarks"])
        return evaluation

    def sums(self) -> dict[str, dict[str, Any]]:
        """What the errors of flow and landmarks are taken from, ready for JSON."""
        return {"flow": asdict(self.flow), "landmarks": asdict(self.landmarks)}

    def add_windows(self, windows: Sequence[LabelledWindow]) -> None:
        """Add windows as `windows` gave them; flow and landmarks are added to `flow` and `landmarks` apart.

        Raises:
            ValueError: a label is out of range, or a video comes with two labels. Nothing is added then.
        """
        if not windows:
            return
        names = [window.video for window in windows]
        self._labels = self._with_labels(names, [window.label for window in windows])
        self._videos += names
        self._probabilities.append(torch.tensor([window.probabilities for window in windows], dtype=torch.float64))

    def videos(self) -> list[VideoPrediction]:
        """What was predicted for each video so far, in the order in which they first came."""
        if not self._videos:
            return []
        names, probabilities = video_scores(torch.cat(self._probabilities), self._videos)
        predicted = probabilities.argmax(1).tolist()
        windows = Counter(self._videos)
        return [
            VideoPrediction(name, self._labels[name], best, tuple(row), windows[name])
            for name, best, row in zip(names, predicted, probabilities.tolist(), strict=True)
        ]

    def compute(self) -> Scores:
        """Score all that was added.

        Raises:
            ValueError: nothing was added.
        """
        videos = self.videos()
        if not videos:
            raise ValueError("there are no videos to score")
        confusion = confusion_matrix(
            torch.tensor([video.predicted for video in videos]),
            torch.tensor([video.label for video in videos]),
            len(self.classes),
        )
        return Scores(
            recognition_scores(confusion, self.classes),
            self.flow.scores() if self.flow.pixels else None,
            self.landmarks.scores() if self.landmarks.frames else None,
        )

    def _with_labels(self, names: list[Hashable], labels: list[int]) -> dict[Hashable, int]:
        known = dict(self._labels)
        for name, label in zip(names, labels, strict=True):
            if not 0 <= label < len(self.classes):
                raise ValueError(f"label {label} of video {name} is not one of {len(self.classes)} classes")
            if known.setdefault(name, label) != label:
                raise ValueError(f"video {name} has two labels, {known[name]} and {label}")
        return known
