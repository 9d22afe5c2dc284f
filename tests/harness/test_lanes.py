"""Where the lanes of the interpreter are skipped."""

import pytest
from harness.lanes import unfit


@pytest.mark.parametrize(("triton", "numpy"), [("3.6.0", "2.3.5"), ("3.7.1", "2.4.6"), ("3.9.0+git1", "2.5.0")])
def test_the_interpreter_runs(triton: str, numpy: str) -> None:
    assert unfit(triton, numpy) is None


def test_the_interpreter_of_triton_36_does_not_run_beside_numpy_24() -> None:
    assert "Triton 3.6.0 needs NumPy older than 2.4, got 2.4.6" in str(unfit("3.6.0", "2.4.6"))
