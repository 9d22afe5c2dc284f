"""Names of users on the terminal are text: markup in them neither styles nor ends a table."""

from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from mol_fast.cli import progress
from mol_fast.prediction.result import Prediction, WindowPrediction
from mol_fast.prediction.terminal import print_prediction
from mol_fast.prediction.windows import Window
from mol_fast.utils.terminal import make_console

HOSTILE = ("[/bold]", "[red]", "[link=x]y", ":smile:", "[", "\\[x]")


@pytest.mark.parametrize("name", HOSTILE)
def test_defect_07_markup_in_a_name_is_text_everywhere_on_the_terminal(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(name, title=f"title {name}", show_footer=True)
    table.add_column(name, footer=name)
    table.add_row(name, name)
    console = make_console(width=100)
    console.print(table)
    console.print(f"line {name}")
    assert capsys.readouterr().out.count(name) == 7


def test_defect_07_progress_shows_markup_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress() as begin:
        begin("fold [/bold]", 1)(1, note="[/red]")
    shown = capsys.readouterr().err
    assert "fold [/bold]" in shown
    assert "[/red]" in shown


def test_defect_07_predict_prints_classes_with_markup(capsys: pytest.CaptureFixture[str]) -> None:
    probabilities = np.array([0.25, 0.75], np.float32)
    window = WindowPrediction(Window(tuple(range(8)), 0), probabilities, None, None, np.eye(2, 3), None, 0)
    print_prediction(Prediction(("[/bold]", "[red]"), probabilities, [window], None, []), (), Path("[/out]"))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[/bold]", "[red]", "0.75", "[/out]"))
