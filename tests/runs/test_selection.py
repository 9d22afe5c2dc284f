"""--selection test: both numbers side by side, the same after an interruption, and the honest one unchanged."""

import json
from pathlib import Path

import pytest
import torch
from harness.trainings import STEPS, options, outcome

from mol_fast.data import PreparedSet
from mol_fast.metrics import Evaluation
from mol_fast.nn.weights import load_weights
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.selection import Scoring, choose, read_scoring, scored_steps, write_scoring
from mol_fast.train import main
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import VideoId

pytestmark = pytest.mark.usefixtures("light")

BY_TEST = ("--selection", "test", "--score-every", "2")


def scoring(step: int, right: int) -> Scoring:
    """Four videos of two classes, of which `right` are predicted right."""
    evaluation = Evaluation(("a", "b"))
    labels = torch.tensor([0, 1, 0, 1])
    logits = torch.nn.functional.one_hot(torch.where(torch.arange(4) < right, labels, 1 - labels)).double()
    evaluation.update(
        logits, labels, [VideoId("casme2", "s1", name) for name in "wxyz"], None, torch.empty(0), None, torch.empty(0)
    )
    return Scoring(step, evaluation)


def test_the_first_of_the_best_is_chosen() -> None:
    assert choose([scoring(10, 1), scoring(20, 3), scoring(30, 3), scoring(40, 2)]).step == 20
    assert scored_steps(7, 3) == [3, 6, 7]
    assert scored_steps(6, 3) == [3, 6]
    assert scored_steps(2, 50) == [2]


def test_a_scoring_reads_as_it_was_written(tmp_path: Path) -> None:
    written = scoring(20, 3)
    write_scoring(tmp_path, written)
    read = read_scoring(tmp_path, 20)
    assert read.evaluation.windows() == written.evaluation.windows()
    assert read.evaluation.compute() == written.evaluation.compute()
    (path,) = tmp_path.glob("scorings/*.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match="its content differs from its digest; remove"):
        read_scoring(tmp_path, 20)


def test_both_numbers_side_by_side(
    embedded_small: PreparedSet, uninterrupted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(options(embedded_small, tmp_path, *BY_TEST)) == 0
    printed = capfd.readouterr()
    assert "chosen on test" in printed.out
    assert "optimistic" in printed.err
    run = tmp_path / "run"
    (fold,) = (run / "folds").iterdir()
    assert sorted(path.name for path in (fold / "scorings").iterdir()) == [
        f"step-0000000{step}.json" for step in (2, 4, 6)
    ]
    scores, honest = (json.loads((path / "run/scores.json").read_text()) for path in (tmp_path, uninterrupted))
    chosen = scores["chosen_on_test"]
    best = choose([read_scoring(fold, step) for step in (2, 4, 6)])
    assert chosen["steps"] == {fold.name: best.step}
    assert chosen["statistics"]["accuracy"]["mean"] == best.accuracy >= honest["statistics"]["accuracy"]["mean"]
    assert "optimistic" in chosen["warning"]
    assert (scores["seeds"], scores["statistics"]) == (honest["seeds"], honest["statistics"])
    for name in ("metrics.csv", "windows.csv"):
        assert (fold / name).read_bytes() == (uninterrupted / "run/folds" / fold.name / name).read_bytes()
    _, info = load_weights(fold)
    assert info["steps"] == STEPS
    header, row = (run / "folds.csv").read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["chosen_step"] == str(best.step)
    page = (run / "report.html").read_text()
    assert "Chosen on the test subjects" in page
    assert "optimistic" in page


def test_an_interrupted_choice_is_the_same(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the last file was that a run could write, the same command ends with the same files."""
    from mol_fast.runs import fold_results, selection
    from mol_fast.utils import files

    whole, more = tmp_path / "whole", [*BY_TEST, "--tasks", "mer", "--checkpoint-every", "3"]
    assert main(options(embedded_small, whole, *more)) == 0

    class Killed(BaseException):
        pass

    for number, module in ((1, selection), (2, selection), (0, fold_results)):
        out = tmp_path / f"{module.__name__}-{number}"
        written: list[Path] = []

        def write(path: Path, data: bytes | str, number: int = number, written: list[Path] = written) -> None:
            written.append(path)
            if len(written) > number:
                raise Killed
            files.write_atomic(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_atomic", write)
            with pytest.raises(Killed):
                main(options(embedded_small, out, *more))
        (fold,) = (out / "run/folds").iterdir()
        assert FoldResults.read(fold) is None
        assert main(options(embedded_small, out, *more)) == 0
        assert outcome(out) == outcome(whole)
        scorings = [sorted(path.glob("run/folds/*/scorings/*.json")) for path in (out, whole)]
        assert [path.read_bytes() for path in scorings[0]] == [path.read_bytes() for path in scorings[1]]
