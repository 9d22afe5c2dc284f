"""The plan: stages in order, their seconds and their deadlines."""

from collections.abc import Iterable
from typing import NamedTuple

SECONDS = 520
"""Default seconds of the whole run."""
RESERVE = 10
"""Seconds at the end for killing hanging processes, the last record, and removing temporary files."""
LEAST = 30
"""Least seconds of a run: with fewer, no stage could even import PyTorch."""
MOST = 86400
"""Most seconds of a run, far beyond what it can use."""


class Stage(NamedTuple):
    """One stage, run by `gpu_stages.NAME.run`."""

    name: str
    seconds: int
    what: str


STAGES = (
    # The first import of PyTorch reads gigabytes; unused time goes to the following stages.
    Stage("card", 30, "card, versions, copy rate and product rate, measured"),
    Stage("smoke", 45, "every operator by its kernels against PyTorch; one that fails runs on PyTorch later"),
    Stage("tuning", 105, "tiles, warps and stages of every kernel, each candidate checked, then timed"),
    Stage("times", 60, "kernel and eager time of FCC, CCC, F5C and correlation, beside PyTorch and torch.compile"),
    Stage("training", 60, "training step at batch 32: eager, CUDA graph, compiled; profile; no synchronisation"),
    Stage("tests", 110, "the GPU tests"),
    Stage("memcheck", 60, "compute-sanitizer on a small F5C and a small correlation"),
    Stage("tools", 40, "Nsight Compute on the kernels of the block, and the doctor"),
)
NAMES = tuple(stage.name for stage in STAGES)
BESIDE = "compile"
"""Stage that runs concurrently with smoke and tuning, and fills torch.compile's caches for times and training."""
BESIDE_UNTIL = "tuning"


class Planned(NamedTuple):
    """A stage and its end, in seconds from the start of the run."""

    stage: Stage
    end: float


def planned(seconds: float, only: list[str] | None = None, skip: list[str] | None = None) -> list[Planned]:
    """Return the chosen stages and their ends. Unused time of a stage goes to the next one.

    Stages share `seconds` in proportion to their planned seconds; all stages together need exactly `SECONDS`.

    Raises:
        ValueError: a stage does not exist, no stage is left, or there are too few seconds.
    """
    for name in (*(only or ()), *(skip or ())):
        if name not in NAMES:
            raise ValueError(f"there is no stage {name!r}, choose among {', '.join(NAMES)}")
    if not LEAST <= seconds <= MOST:
        raise ValueError(f"--seconds must be between {LEAST} and {MOST}, got {seconds:g}")
    chosen = [stage for stage in STAGES if (not only or stage.name in only) and stage.name not in (skip or ())]
    if not chosen:
        raise ValueError("no stage is left, name fewer in --skip")
    factor = (seconds - RESERVE) / sum(stage.seconds for stage in chosen)
    ends, end = [], 0.0
    for stage in chosen:
        end += stage.seconds * factor
        ends.append(Planned(stage, end))
    return ends


def begins_beside(names: Iterable[str]) -> bool:
    """Return whether `BESIDE` runs: concurrently with stages before those that need it."""
    chosen = set(names)
    return {"smoke", BESIDE_UNTIL} <= chosen and bool({"times", "training"} & chosen)


def table(plan: list[Planned], seconds: float) -> str:
    """Return the plan as text, with total seconds."""
    lines, start = ["seconds  until  stage"], 0.0
    for stage, end in plan:
        lines.append(f"{end - start:7.1f}  {end:5.0f}  {stage.name:<9} {stage.what}")
        start = end
    last = f"{RESERVE:7.1f}  {start + RESERVE:5.0f}  end"
    lines.append(f"{last:<24} what hangs is killed, files are closed")
    lines.append(f"together {start + RESERVE:.0f} of {seconds:g} seconds")
    if begins_beside(item.stage.name for item in plan):
        lines[-1] += f"; {BESIDE} runs beside smoke and tuning"
    return "\n".join(lines)
