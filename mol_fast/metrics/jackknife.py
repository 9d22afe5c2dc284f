"""Confidence intervals of scores over subjects: the jackknife with Student's t.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11. Videos of one subject are similar, so
whole subjects are left out, one at a time. A score is computed from counts pooled over the others. For a composite, the
subjects of each source are a stratum of their own, and the degrees of freedom are those of Satterthwaite (An
Approximate Distribution of Estimates of Variance Components, Biometrics 2(6), 1946).

The interval of a score is built on the scale of its logarithm or log-odds, so that it stays inside the range. The
bootstrap's percentile and BCa intervals are too narrow for the 16 to 28 subjects of the field: see
`tests/shows/interval_coverage.py`.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
FEW = 6
"""Fewest subjects that can show a difference: n subjects all agree by chance with probability 2 / 2^n, above 5 %
for fewer."""

_ROUNDING = 1e-12

Array = npt.NDArray[np.float64]
Scale = Literal["difference", "ratio", "positive"]
"""What a score is: a difference, which may have any value; a ratio from 0 to 1; or positive, as errors are."""


def leave_one_out(subjects: int) -> Array:
    """Return weights (1 + S, S) of S subjects: first all of them, then each time all but one."""
    return np.concatenate([np.ones((1, subjects)), 1 - np.eye(subjects)])


def standard_error(values: Array, strata: Sequence[Hashable]) -> tuple[float, float]:
    """Return the standard error of a score, and its degrees of freedom: those of Satterthwaite, at most S - strata.

    Args:
        values: (1 + S,), the score for each row of `leave_one_out`.
        strata: the stratum of each subject. If one of them has only one subject, all subjects are one stratum.
    """
    without = np.asarray(values[1:], dtype=np.float64)
    counts = Counter(strata)
    labels = list(strata) if min(counts.values()) > 1 else [0] * len(without)
    parts = [without[[label == stratum for label in labels]] for stratum in dict.fromkeys(labels)]
    variances = [(len(of) - 1) / len(of) * float(((of - of.mean()) ** 2).sum()) for of in parts]
    variance, spread = sum(variances), sum(part**2 / (len(of) - 1) for part, of in zip(variances, parts, strict=True))
    return math.sqrt(variance), variance**2 / spread if spread else len(without) - len(parts)


def interval(values: Array, strata: Sequence[Hashable], scale: Scale) -> tuple[float, float] | None:
    """Return the ends of the 95 % interval of a score, or None if it cannot be told.

    It cannot for fewer than two subjects, nor for values that are not finite. Neither can it where the score tells
    nothing about its spread: a ratio of 0 or 1, an error of 0, and a score that is the same without any one subject.
    Two runs that are equal on all subjects have the interval from 0 to 0.

    Args:
        values: see `standard_error`.
        strata: see `standard_error`.
        scale: what the score is.
    """
    if len(values) < 3 or not np.isfinite(values).all():
        return None
    from scipy.special import stdtrit

    score = float(values[0])
    error, freedom = standard_error(values, strata)
    if error <= _ROUNDING and not (scale == "difference" and abs(score) <= _ROUNDING):
        return None
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    if scale == "difference":
        return score - reach, score + reach
    if score <= 0 or (scale == "ratio" and score >= 1):
        return None
    if scale == "positive":
        return score * math.exp(-reach / score), score * math.exp(reach / score)
    odds, reach = math.log(score / (1 - score)), reach / (score * (1 - score))
    return 1 / (1 + math.exp(min(reach - odds, 700))), 1 / (1 + math.exp(min(-reach - odds, 700)))
