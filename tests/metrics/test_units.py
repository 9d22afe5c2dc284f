"""Scores of action units by hand, pooled over folds, and through the table of windows."""

import pytest
import torch
from torch import Tensor

from mol_fast.metrics import Evaluation, unit_scores
from mol_fast.runs.windows_table import read_windows, windows_table
from mol_fast.utils.names import VideoId
from mol_fast.vision.facs import UNITS, UNKNOWN

CLASSES = ("a", "b")


def truth(*units: int) -> Tensor:
    return torch.tensor([[int(unit in units) for unit in UNITS]], dtype=torch.int8)


def logits(*units: int) -> Tensor:
    return 6 * truth(*units).float() - 3


def collected(name: str, units: Tensor | None, units_true: Tensor | None) -> Evaluation:
    """The evaluation of one video; each row of the units is a window."""
    evaluation = Evaluation(CLASSES)
    count = 1 if units is None else len(units)
    labels, videos = torch.zeros(count, dtype=torch.long), [VideoId("set", "s1", name)] * count
    some = torch.zeros(count, 2)
    evaluation.update(some, labels, videos, None, some, None, some, units=units, units_true=units_true)
    return evaluation


@pytest.fixture
def pooled() -> Evaluation:
    """Units 1 and 2 in truth; 1 is right twice and called once too often, 2 is missed once; one video is unknown."""
    evaluation = collected("both", torch.cat([logits(1), logits(1), logits(2)]), truth(1, 2).repeat(3, 1))
    for name, found, true in (("one", logits(1), truth(1)), ("none", logits(1, 4), truth())):
        evaluation.merge(collected(name, found, true))
    evaluation.merge(collected("unknown", logits(2, 17), torch.full((1, 12), UNKNOWN, dtype=torch.int8)))
    return evaluation


def test_f1_is_the_mean_over_units_that_occur(pooled: Evaluation) -> None:
    scores = pooled.compute().units
    assert scores is not None
    assert scores.videos == 3
    found = {item.name: (item.videos, item.predicted, item.recall, item.precision, item.f1) for item in scores.per_unit}
    assert found["AU1"] == (2, 3, 1.0, 2 / 3, pytest.approx(0.8))
    assert found["AU2"] == (1, 0, 0.0, None, 0.0), "its mean over three windows is below a half"
    assert found["AU4"] == (0, 1, None, 0.0, 0.0)
    assert found["AU17"] == (0, 0, None, None, None), "the annotation of that video is unknown"
    assert scores.f1 == pytest.approx(0.4)
    assert pooled.compute().summary()["unit_f1"] == scores.f1


def test_a_doubted_unit_counts_for_nothing() -> None:
    doubted = truth(1)
    doubted[0, UNITS.index(4)] = UNKNOWN
    scores = unit_scores(logits(1, 4).sigmoid(), doubted)
    assert scores is not None
    assert (scores.videos, scores.f1) == (1, 1.0)
    assert scores.per_unit[UNITS.index(4)].predicted == 0


def test_nothing_is_scored_without_units_or_annotation() -> None:
    unknown = torch.full((1, 12), UNKNOWN, dtype=torch.int8)
    for evaluation in (collected("v", logits(1), unknown), collected("v", None, None), collected("v", None, unknown)):
        scores = evaluation.compute()
        assert scores.units is None
        assert "unit_f1" not in scores.summary()


def test_the_table_of_windows_tells_them(pooled: Evaluation) -> None:
    table = windows_table(pooled)
    head = table.splitlines()[0].split(",")
    names = [f"au{unit}" for unit in UNITS]
    assert head[6:] == ["p_a", "p_b", *names, *(f"{name}_true" for name in names)]
    windows = read_windows(table, CLASSES, list)
    assert windows == pooled.windows()
    again = Evaluation.restored(CLASSES, windows, pooled.flow, pooled.landmarks)
    assert again.compute() == pooled.compute()
    for old, new, error in (
        (",1,1,0,", ",1,2,0,", "truth of action units other than"),
        ("au17_true", "au18_true", "column"),
    ):
        assert old in table
        with pytest.raises(ValueError, match=error):
            read_windows(table.replace(old, new), CLASSES, list)
    assert "au1" not in windows_table(collected("v", None, None))


def test_windows_that_do_not_fit_together(pooled: Evaluation) -> None:
    with pytest.raises(ValueError, match="some windows have action units, others have not"):
        pooled.merge(collected("other", None, None))
    with pytest.raises(ValueError, match="has two annotations of action units"):
        pooled.merge(collected("one", logits(1), truth(2)))
    with pytest.raises(ValueError, match="must be finite, with a truth of the same shape"):
        collected("v", torch.full((1, 12), torch.nan), truth(1))
    assert len(pooled.videos()) == 4
