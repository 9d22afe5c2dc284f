"""Recognition scores over videos, from counts pooled over all folds."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
V = TypeVar("V", bound=Hashable)


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class. A ratio with denominator 0 is None.

    Attributes:
        name: the class.
        videos: number of videos of this class.
        predicted: number of videos predicted as this class.
        recall, precision, f1: 0..1.
    """

    name: str
    videos: int
    predicted: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class Recognition:
    """Recognition scores over videos, each 0..1.

    Attributes:
        classes: names, in the order of the labels.
        confusion: number of videos, row = true class, column = predicted class.
        accuracy: share of correct videos, the same as weighted average recall (WAR).
        uf1: mean F1 over classes. A class that never occurs, true or predicted, has no F1 and is ignored. A class that
            is predicted but never true has F1 = 0.
        uar: mean recall over classes with videos.
        wf1: mean F1 over classes, weighted by their number of videos.
        per_class: scores of each class.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    uf1: float
    uar: float
    wf1: float
    per_class: tuple[ClassScores, ...]


def video_scores(probabilities: Tensor, videos: Sequence[V]) -> tuple[list[V], Tensor]:
    """Average the probabilities over the windows of each video.

    Probabilities are averaged, not logits, so every window has the same weight, however confident it is.

    Args:
        probabilities: (W, K), softmax of the logits of W windows.
        videos: W identities of videos, of any hashable type.

    Returns:
        The V distinct identities, in order of first appearance, and the mean probabilities (V, K) in float64.

    Raises:
        ValueError: `probabilities` is not (W, K).
    """
    if probabilities.dim() != 2 or len(videos) != len(probabilities):
        raise ValueError(f"probabilities {tuple(probabilities.shape)} must be (W, K) for {len(videos)} windows")
    places = {video: place for place, video in enumerate(dict.fromkeys(videos))}
    index = torch.tensor([places[video] for video in videos], dtype=torch.int64)
    sums = torch.zeros(len(places), probabilities.shape[1], dtype=torch.float64)
    sums.index_add_(0, index, probabilities.detach().cpu().double())
    return list(places), sums / index.bincount(minlength=len(places))[:, None]


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count videos in a confusion matrix, int64 (K, K), row = true class, column = predicted class.

    Args:
        predicted, labels: (V,) classes 0..K-1.
        num_classes: K.

    Raises:
        ValueError: a class is out of range.
    """
    for name, classes in (("predicted", predicted), ("labels", labels)):
        if ((classes < 0) | (classes >= num_classes)).any():
            raise ValueError(f"{name} must be from 0 to {num_classes - 1}, got {classes.tolist()}")
    return torch.bincount(num_classes * labels + predicted, minlength=num_classes**2).view(num_classes, num_classes)


class ClassRatios(NamedTuple):
    """Recall, precision and F1 of each class, each (..., K), 0..1; NaN if the denominator is 0."""

    recall: Array
    precision: Array
    f1: Array


class Ratios(NamedTuple):
    """The scores of `Recognition`, each (...), 0..1."""

    accuracy: Array
    uf1: Array
    uar: Array
    wf1: Array


def class_ratios(confusion: npt.NDArray[Any]) -> ClassRatios:
    """Return the ratios of each class from confusion matrices (..., K, K), row = true, column = predicted class."""
    right, videos, predicted = _counts(confusion)
    return ClassRatios(_divide(right, videos), _divide(right, predicted), _divide(2 * right, videos + predicted))


def recognition_ratios(confusion: npt.NDArray[Any]) -> Ratios:
    """Return the scores of many confusion matrices at once, as defined by `Recognition`.

    Args:
        confusion: (..., K, K), each with at least one video.
    """
    right, videos, _ = _counts(confusion)
    total = videos.sum(-1)
    recall, _, f1 = class_ratios(confusion)
    return Ratios(
        accuracy=right.sum(-1) / total,
        uf1=np.nanmean(f1, axis=-1),
        uar=np.nanmean(recall, axis=-1),
        wf1=(videos * np.nan_to_num(f1)).sum(-1) / total,
    )


def recognition_scores(confusion: Tensor, classes: Sequence[str]) -> Recognition:
    """Return recognition scores from a confusion matrix (K, K), which may be a sum over folds.

    Raises:
        ValueError: `confusion` is not (K, K) for the K classes, or is empty.
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion {tuple(confusion.shape)} must be (K, K) for {len(classes)} classes")
    counts = confusion.cpu().numpy()
    if not counts.any():
        raise ValueError("confusion has no videos to score")
    videos, predicted = counts.sum(1).tolist(), counts.sum(0).tolist()
    ratios = [[None if np.isnan(value) else value for value in row.tolist()] for row in class_ratios(counts)]
    return Recognition(
        classes=tuple(classes),
        confusion=tuple(map(tuple, counts.tolist())),
        **{name: float(value) for name, value in recognition_ratios(counts)._asdict().items()},
        per_class=tuple(ClassScores(*row) for row in zip(classes, videos, predicted, *ratios, strict=True)),
    )


def _counts(confusion: npt.NDArray[Any]) -> tuple[Array, Array, Array]:
    """Return for each class, (..., K): correct videos, true videos, predicted videos."""
    counts = confusion.astype(np.float64)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)


def _divide(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
