"""Trainings of a few steps, and what of them must be the same. As a program, `light_main`."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import forks
from harness.forks import Program
from safetensors.torch import load_file

from mol_fast import PRESETS
from mol_fast.data import PreparedSet
from mol_fast.train import main

STEPS = 6


@contextmanager
def light() -> Iterator[None]:
    """Trainings with a narrow flow head, unexplained samples, and reports whose drawings are empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small", replace(PRESETS["small"], flow_width=0.02))
        patch.setattr("mol_fast.training.fold.explain_samples", lambda model, clips, samples: samples)
        patch.setattr("mol_fast.report.figures._png", lambda figure: b"")
        yield


def light_main(argv: list[str]) -> int:
    """`main` with such trainings."""
    with light():
        return main(argv)


def options(prepared: PreparedSet, out: Path, *more: str) -> list[str]:
    """Options of a training of a few steps, which leaves checkpoints."""
    common = {"--data": str(prepared.path), "--out": str(out), "--name": "run", "--batch-size": "2"}
    return options_once(common | {"--precision": "float32", "--steps": str(STEPS), "--checkpoint-every": "2"}, more)


def options_once(common: dict[str, str], more: Sequence[str]) -> list[str]:
    """Common options, without those that `more` gives, then `more`: an option may not be given twice."""
    return [word for option, value in common.items() if option not in more for word in (option, value)] + [*more]


def outcome(out: Path) -> dict[str, object]:
    """What must not depend on interruptions: configurations of folds, losses, predictions, scores, weights."""
    found: dict[str, object] = {}
    for name in ("folds/*/config.json", "metrics.csv", "windows.csv", "scores.json"):
        found |= {str(path.relative_to(out)): path.read_text() for path in sorted(out.rglob(name))}
    for path in sorted(out.rglob("weights.safetensors")):
        found[str(path.relative_to(out))] = {
            name: value.tolist() for name, value in load_file(path).items() if value.numel() < 600
        }
    return found


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file as its reader asks those who do it by hand: without its digest."""
    content = json.loads(path.read_text())
    content.pop("digest", None)
    change(content)
    path.write_text(json.dumps(content))


def every_fold(prepared: PreparedSet, out: Path) -> None:
    """Hold out every subject in turn, with two seeds and one step each."""
    assert light_main(options(prepared, out, "--steps", "1", "--folds", "all", "--seeds", "2")) == 0


def whole(prepared: PreparedSet, out: Path) -> None:
    """The training that `start` begins, from its beginning to its end."""
    assert start(prepared, out).end() == 0


def start(prepared: PreparedSet, out: Path, *more: str) -> Program:
    """Begin that training in a process, and a group, of its own."""
    return forks.start(light_main, options(prepared, out, *more), out.with_name(f"{out.name}.printed"))


def await_steps(process: Program, out: Path, steps: int) -> None:
    """Wait until the only fold of a run has recorded `steps` steps, or its process has ended."""
    while process.is_alive():
        lines = [path.read_text().count("\n") for path in out.glob("run/folds/*/metrics.csv")]
        if max(lines, default=0) >= steps + 1:  # with the names of the columns
            return
        process.join(0.02)


if __name__ == "__main__":
    sys.exit(light_main(sys.argv[1:]))
