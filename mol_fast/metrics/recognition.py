"""Recognition scores. The unit is the video, and ratios come from counts pooled over all folds."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; a ratio with nothing to divide by is None.

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
        accuracy: share of videos predicted right, the same as the weighted average recall (WAR).
        uf1: mean F1 of the classes; one that is neither true nor predicted anywhere has no F1 and is left out,
            one that is predicted but never true counts as 0.
        uar: mean recall of the classes that have videos.
        wf1: mean F1 of the classes, weighted by their videos.
        per_class: scores of each class.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    uf1: float
    uar: float
    wf1: float
    per_class: tuple[ClassScores, ...]


def video_scores(probabilities: Tensor, videos: Sequence[Hashable] | Tensor) -> tuple[list[Hashable], Tensor]:
    """Average the scores of the windows of each video.

    Probabilities are averaged, not logits: every window then has the same say, however sure it is.

    Args:
        probabilities: (W, K), softmax of the logits of W windows.
        videos: W identifiers.

    Returns:
        The V identifiers in the order in which they first appear, and the mean probabilities (V, K) in float64.

    Raises:
        ValueError: ``probabilities`` is not (W, K).
    """
    names = identifiers(videos)
    if probabilities.dim() != 2 or len(names) != len(probabilities):
        raise ValueError(f"probabilities {tuple(probabilities.shape)} must be (W, K) for {len(names)} windows")
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    index = torch.tensor([places[name] for name in names], dtype=torch.int64)
    sums = torch.zeros(len(places), probabilities.shape[1], dtype=torch.float64)
    sums.index_add_(0, index, probabilities.detach().cpu().double())
    return list(places), sums / index.bincount(minlength=len(places))[:, None]


def identifiers(videos: Sequence[Hashable] | Tensor) -> list[Hashable]:
    """The videos' identifiers as hashable values; those in a tensor become numbers."""
    return videos.tolist() if isinstance(videos, Tensor) else list(videos)


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count videos: (K, K) int64, row = true class, column = predicted class.

    Args:
        predicted, labels: (V,) classes 0..K-1.
        num_classes: K.

    Raises:
        RuntimeError: a class is out of range.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counts: Tensor = multiclass_confusion_matrix(predicted, labels, num_classes)
    return counts


def recognition_scores(confusion: Tensor, classes: Sequence[str]) -> Recognition:
    """Recognition scores from a confusion matrix (K, K), which may be the sum over folds.

    Raises:
        ValueError: ``confusion`` is not (K, K) for the K classes, or is empty.
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion {tuple(confusion.shape)} must be (K, K) for {len(classes)} classes")
    counts = confusion.tolist()
    total = sum(map(sum, counts))
    if not total:
        raise ValueError("confusion has no videos to score")
    per_class = tuple(_class_scores(counts, place, name) for place, name in enumerate(classes))
    return Recognition(
        classes=tuple(classes),
        confusion=tuple(map(tuple, counts)),
        accuracy=sum(counts[place][place] for place in range(len(classes))) / total,
        uf1=_mean([scores.f1 for scores in per_class]),
        uar=_mean([scores.recall for scores in per_class]),
        wf1=sum(scores.videos * (scores.f1 or 0.0) for scores in per_class) / total,
        per_class=per_class,
    )


def _class_scores(counts: list[list[int]], place: int, name: str) -> ClassScores:
    right, videos, predicted = counts[place][place], sum(counts[place]), sum(row[place] for row in counts)
    return ClassScores(
        name=name,
        videos=videos,
        predicted=predicted,
        recall=_ratio(right, videos),
        precision=_ratio(right, predicted),
        f1=_ratio(2 * right, videos + predicted),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined)
