"""Intervals of scores over subjects: values by hand, edges, and how often they hold the truth."""

import math

import numpy as np
import pytest

from mol_fast.metrics.jackknife import interval, leave_one_out, standard_error


def means(values: list[float]) -> np.ndarray:
    """The mean of all values, and of all but one."""
    weights = leave_one_out(len(values))
    return weights @ np.array(values) / weights.sum(1)


def test_standard_error_of_a_mean_is_the_known_one() -> None:
    values = [0.2, 0.5, 0.4, 0.9, 0.7]
    error, freedom = standard_error(means(values), "aaaaa")
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(5))
    assert freedom == pytest.approx(4)


def test_interval_of_a_mean_is_that_of_students_t() -> None:
    values = means([0.2, 0.5, 0.4, 0.9, 0.7])
    error = standard_error(values, "aaaaa")[0]
    reach = 2.776445 * error  # 97.5 % of Student's t with 4 degrees of freedom
    assert interval(values, "aaaaa", "difference") == pytest.approx((0.54 - reach, 0.54 + reach))
    assert interval(values, "aaaaa", "positive") == pytest.approx(
        (0.54 * math.exp(-reach / 0.54), 0.54 * math.exp(reach / 0.54))
    )
    low, high = (math.log(0.54 / 0.46) + side * reach / (0.54 * 0.46) for side in (-1, 1))
    expected = (1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high)))
    assert interval(values, "aaaaa", "ratio") == pytest.approx(expected)


def test_every_source_is_a_stratum() -> None:
    """Sources that differ much do not widen the interval, as each has a fixed number of subjects."""
    values = means([0.1, 0.2, 0.3, 5.1, 5.2, 5.3])
    error, freedom = standard_error(values, "aaabbb")
    assert freedom == pytest.approx(4)
    assert error == pytest.approx(math.sqrt(2 * 2 / 3 * 0.02 / 25))
    single = standard_error(values, "aaabbc")[1]
    assert single == pytest.approx(5)  # a stratum of one subject has no spread: one stratum


def test_a_source_that_varies_more_has_most_of_the_degrees_of_freedom() -> None:
    """As in the test of Welch: variances of the means 1 / 3 and 4 / 3, so (5 / 3)^2 / (17 / 9 / 2)."""
    values = means([0.0, 1.0, 2.0, 10.0, 12.0, 14.0])
    assert standard_error(values, "aaabbb")[1] == pytest.approx(50 / 17)
    assert standard_error(np.ones(7), "aaabbb") == (0, 4)


@pytest.mark.parametrize("scale", ["ratio", "positive", "difference"])
def test_what_has_no_interval(scale) -> None:
    assert interval(np.array([0.5, 0.5]), "a", scale) is None
    assert interval(np.array([0.5, 0.4, math.nan]), "aa", scale) is None
    if scale != "difference":
        assert interval(np.array([0.0, 0.0, 0.0]), "aa", scale) is None
    assert interval(np.array([1.0, 1.0, 1.0]), "aa", "ratio") is None
    assert interval(np.array([0.5, 0.5, 0.5]), "aa", scale) is None, "as of the majority class"


def test_runs_that_are_equal_everywhere_have_an_interval_without_width() -> None:
    assert interval(np.zeros(7), "aaaaaa", "difference") == (0, 0)


def test_ends_of_wide_intervals_stay_inside() -> None:
    low, high = interval(np.array([0.5, 0.0, 1.0]), "aa", "ratio") or (math.nan, math.nan)
    assert 0 <= low < 0.01
    assert 0.99 < high <= 1
