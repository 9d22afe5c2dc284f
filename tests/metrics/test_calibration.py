"""Temperature and calibration error: numbers by hand, known temperatures found, and no confidence out of nothing."""

import numpy as np
import pytest

from mol_fast.metrics import fit_temperature, reliability, temper

RNG = np.random.default_rng(0)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def drawn(probabilities: np.ndarray) -> np.ndarray:
    """Labels that occur as often as the probabilities say."""
    return (probabilities.cumsum(1) < RNG.uniform(size=(len(probabilities), 1))).sum(1).clip(max=2)


def test_reliability_by_hand() -> None:
    """Bins of 1/15: 0.6 is the upper end of bin 8, 0.9 lies in bin 13."""
    rows = [(0.6, 0.4), (0.4, 0.6), (0.9, 0.1), (0.9, 0.1), (1.0, 0.0)]
    found = reliability(rows, [0, 0, 0, 1, 0])
    assert {place: n for place, n in enumerate(found.count) if n} == {8: 2, 13: 2, 14: 1}
    assert found.confidence[8] == pytest.approx(0.6)
    assert (found.accuracy[8], found.accuracy[13], found.accuracy[14]) == (0.5, 0.5, 1.0)
    assert found.confidence[0] is None
    assert found.error == pytest.approx((2 * 0.1 + 2 * 0.4 + 0) / 5)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(true: float) -> None:
    logits = RNG.normal(0, 2, (4000, 3))
    labels = drawn(softmax(logits))
    given = softmax(logits * true)  # too confident by this factor
    temperature = fit_temperature(given, labels)
    assert temperature == pytest.approx(true, rel=0.08)
    calibrated = temper(given, temperature)
    assert reliability(calibrated, labels).error < 0.03
    if true != 1:
        assert reliability(calibrated, labels).error < 0.5 * reliability(given, labels).error
    likelihoods = [
        np.log(temper(given, t)[np.arange(4000), labels]).sum() for t in temperature * np.array([0.9, 1, 1.1])
    ]
    assert np.argmax(likelihoods) == 1


def test_random_labels_are_not_calibrated_to_confidence() -> None:
    given = softmax(RNG.normal(0, 6, (300, 3)))
    labels = RNG.integers(0, 3, 300)
    assert given.max(1).mean() > 0.9
    calibrated = temper(given, fit_temperature(given, labels))
    assert calibrated.max(1).mean() < 0.42  # a third is chance
    assert reliability(calibrated, labels).error < 0.15 < 0.5 < reliability(given, labels).error


@pytest.mark.parametrize("videos", [3, 30])
def test_few_right_videos_are_no_certainty(videos: int) -> None:
    given = np.tile([0.6, 0.2, 0.2], (videos, 1))
    confidence = temper(given, fit_temperature(given, np.zeros(videos, int))).max()
    assert confidence == pytest.approx(1 - 2 / 3 / (videos + 1), abs=0.01)  # one more video, of any class


def test_the_order_of_classes_stays() -> None:
    given = RNG.dirichlet((0.3, 0.3, 0.3), 500)
    given[0] = 1, 0, 0
    for temperature in (0.05, 0.5, 1, 7, 100):
        tempered = temper(given, temperature)
        assert np.isfinite(tempered).all()
        np.testing.assert_allclose(tempered.sum(1), 1)
        assert (tempered[1:].argmax(1) == given[1:].argmax(1)).all()
    np.testing.assert_allclose(temper(given, 1), given, atol=1e-12)
    assert temper(given[0], 2.0).tolist() == pytest.approx([1, 0, 0])


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(N, K\)"):
        reliability([(0.5, 0.5)], [0, 1])
    with pytest.raises(ValueError, match="not empty"):
        fit_temperature(np.zeros((0, 3)), [])
    with pytest.raises(ValueError, match="from 0 to 1"):
        fit_temperature([(0.5, 0.5)], [2])
