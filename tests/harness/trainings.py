"""Trainings of a few steps, and what of them must be the same."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mol_fast.data import PreparedSet
from mol_fast.train import main

STEPS = 6


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
    assert main(options(prepared, out, "--steps", "1", "--folds", "all", "--seeds", "2")) == 0


def whole(prepared: PreparedSet, out: Path) -> None:
    """The training that `start` begins, from its beginning to its end."""
    assert start(prepared, out).wait() == 0


def start(prepared: PreparedSet, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """Begin that training in a process, and a group, of its own."""
    command = [sys.executable, "-m", "mol_fast.train", *options(prepared, out, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdout=nothing, stderr=pipe, env=environment, start_new_session=True)
