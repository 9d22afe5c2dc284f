"""A prediction as a data frame of pandas."""

import sys

import numpy as np
import pytest

from mol_fast.prediction.aligned import Skipped
from mol_fast.prediction.result import Prediction, WindowPrediction
from mol_fast.prediction.windows import plan_windows
from mol_fast.utils.errors import UserError


def prediction(fps: float | None, units: np.ndarray | None = None) -> Prediction:
    """Two windows with a prediction, of which the last says nothing, and one without a face between them."""
    times = None if fps is None else (50 + np.arange(20)) / fps
    windows = plan_windows(20, 10, 5, times)
    probabilities = np.array([(0.25, 0.75), (0.5, 0.5)], dtype=np.float32)
    done = [
        WindowPrediction(window, values, None, None, np.eye(2, 3), None, 0, remark, units=units)
        for window, values, remark in zip((windows[0], windows[2]), probabilities, (None, "nothing moves"), strict=True)
    ]
    return Prediction(("calm", "smile"), probabilities.mean(0), done, None, [Skipped(windows[1], "no face")], fps, 50)


def test_one_row_for_each_window():
    table = prediction(25).to_dataframe()
    assert list(table) == ["start", "end", "first_frame", "last_frame", "class", "p_calm", "p_smile", "remark"]
    assert table["start"].tolist() == [2, 2.2, 2.4]
    assert table["end"].tolist() == [57 / 25, 62 / 25, 67 / 25]
    assert table["first_frame"].tolist() == [50, 55, 60]
    assert table["last_frame"].tolist() == [57, 62, 67]
    assert table["class"].fillna("").tolist() == ["smile", "", "calm"]
    np.testing.assert_array_equal(table["p_calm"], [0.25, np.nan, 0.5])
    np.testing.assert_array_equal(table["p_smile"], [0.75, np.nan, 0.5])
    assert table["remark"].fillna("").tolist() == ["", "no face", "nothing moves"]


def test_without_a_rate_there_are_no_seconds():
    table = prediction(None).to_dataframe()
    assert table[["start", "end"]].isna().all(axis=None)
    assert table["first_frame"].tolist() == [50, 55, 60]


def test_action_units_of_weights_that_predict_them():
    units = np.linspace(0.1, 0.9, 12, dtype=np.float32)
    table = prediction(25, units).to_dataframe()
    names = [f"AU{unit}" for unit in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)]
    assert list(table)[5:] == ["p_calm", "p_smile", *names, "remark"]
    np.testing.assert_allclose(table[names], [units, np.full(12, np.nan), units])
    np.testing.assert_array_equal(table["p_calm"], [0.25, np.nan, 0.5])


def test_missing_pandas_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"to_dataframe needs pandas: pip install 'mol-fast\[train\]'"):
        prediction(25).to_dataframe()
