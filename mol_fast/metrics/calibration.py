"""Calibration of probabilities: one temperature, and how far confidence is from accuracy.

After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (ICML 2017), sections 2 and 4.2.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BINS = 15
"""Bins of confidence, of equal width, as in section 4 of the paper."""
LEAST, MOST = 0.05, 100.0
"""Smallest and largest temperature that is fitted."""
_HALVINGS = 60


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of predictions, in bins of confidence.

    Attributes:
        error: expected calibration error, 0..1: the mean over predictions of |accuracy - confidence| of their bin,
            equation 3 of the paper.
        count: number of predictions in each bin; bin b holds confidences above b / 15 and up to (b + 1) / 15.
        confidence, accuracy: means in each bin, 0..1; None if it is empty.
    """

    error: float
    count: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


def reliability(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Reliability:
    """Compare confidence, the largest probability, with accuracy.

    Args:
        probabilities: (N, K), N >= 1.
        labels: (N,) true classes, 0..K-1.

    Raises:
        ValueError: shapes do not fit, or a label is out of range.
    """
    values, classes = _checked(probabilities, labels)
    confidence, right = values.max(1), values.argmax(1) == classes
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=part, minlength=BINS) for part in (confidence, right)]
    error = float(np.abs(sums[0] - sums[1]).sum() / len(values))
    means = [
        tuple(float(total / n) if n else None for total, n in zip(part, count.tolist(), strict=True)) for part in sums
    ]
    return Reliability(error, tuple(count.tolist()), *means)


def temper(probabilities: npt.ArrayLike, temperature: float) -> Array:
    """Return softmax(z / T) of the logits z behind probabilities; the order of the classes stays.

    Probabilities tell the logits but for a constant, which softmax ignores: z = log p. Above 1, a temperature T makes
    them less confident. Equation 9 of the paper.

    Args:
        probabilities: (..., K).
        temperature: T > 0.
    """
    return np.asarray(_softmax(_logits(np.asarray(probabilities, np.float64)) / temperature))


def fit_temperature(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the temperature T with the least negative log-likelihood -sum log softmax(z / T)[label].

    Each prediction also counts for all classes alike, by 1 / N: together as much as one more video of unknown class.
    Without it, T would be 0 whenever all predictions are right. As a function of 1 / T the likelihood is concave, and
    its slope is zero at the maximum.

    Args:
        probabilities: (N, K), N >= 1.
        labels: (N,) true classes, 0..K-1, of videos that the model was not trained on.

    Returns:
        T, from 0.05 to 100.

    Raises:
        ValueError: shapes do not fit, or a label is out of range.
    """
    values, classes = _checked(probabilities, labels)
    logits = _logits(values)
    target = logits[np.arange(len(logits)), classes].sum() + logits.mean()
    share = 1 + 1 / len(logits)

    def slope(inverse: float) -> float:
        return float(target - share * (_softmax(logits * inverse) * logits).sum())

    low, high = 1 / MOST, 1 / LEAST
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(1 / np.sqrt(low * high))


def _checked(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.int64]]:
    values, classes = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if values.ndim != 2 or not len(values) or classes.shape != (len(values),):
        raise ValueError(f"probabilities {values.shape} must be (N, K) for {classes.shape} labels, and not empty")
    if classes.min() < 0 or classes.max() >= values.shape[1]:
        raise ValueError(f"labels must be from 0 to {values.shape[1] - 1}")
    return values, classes


def _logits(probabilities: Array) -> Array:
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
