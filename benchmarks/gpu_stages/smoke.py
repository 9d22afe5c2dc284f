"""Stage 1: check the kernels of every operator and dtype against PyTorch, and mark failures.

Launches block here. A failed check runs again and notes every launch, so that the last one is the faulty kernel.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from gpu_stages.card import cores
from gpu_stages.context import Context, current
from gpu_stages.worker import Jobs, Worker, pool

LAUNCHED = "launched"
"""File in the scratch folder with the name of the last launched kernel."""

SECONDS = 15.0
"""Time limit of one check."""
PARTS = 5
"""Number of parts of an operator's launches that are compiled concurrently."""
COMPILE_SECONDS, COMPILE_SHARE = 25.0, 0.5
"""Time limit of one compilation, and share of the stage after which the checks begin in any case."""


def run(context: Context) -> None:
    sizes, failed = context.sizes, 0
    each = [(name, dtype) for dtype in sizes.dtypes for name in sizes.operators]
    shapes: list[int | str] = [sizes.maps[0], "odd", *([sizes.maps[-1] // 4] if len(sizes.maps) > 1 else [])]
    with Worker(context, CUDA_LAUNCH_BLOCKING="1") as worker:
        with pool(context, min(cores() - 2, PARTS * len(each))) as compilers:
            jobs = [
                ("kernels.compile_part", {"name": name, "maps": maps, "dtype": dtype, "part": part, "parts": PARTS})
                for maps in (*shapes, "small")
                for name, dtype in each
                for part in range(PARTS)
            ]
            compilation = Jobs(compilers, jobs if sizes.device == "cuda" else jobs[:1], COMPILE_SECONDS)
            compilation.begin()
            for name, dtype in each:
                worker.ask("problems.prepare", SECONDS, name=name, maps=shapes[0], dtype=dtype)
            compilation.finish(time.monotonic() + COMPILE_SHARE * context.left())
        for maps in shapes:
            for name, dtype in each:
                task = "smoke.by_loops" if maps == "odd" else "problems.check"
                failed += not judge(context, worker, task, name, maps, dtype)
    if failed:
        raise RuntimeError(f"{failed} checks failed or were not made")


def judge(context: Context, worker: Worker, task: str, name: str, maps: int | str, dtype: str) -> bool:
    """Make and record one check, and return whether the kernels are right."""
    reply = worker.ask(task, SECONDS, name=name, maps=maps, dtype=dtype)
    values: dict[str, Any] = reply.value if reply.ok else {"problem": reply.error}
    if reply.state == "late":
        context.record("smoke", operator=name, maps=maps, dtype=dtype, ok=None, problem=reply.error)
        return False
    ok = values["problem"] is None
    if not reply.ok:
        worker.ask("smoke.traced", SECONDS, task=task, name=name, maps=maps, dtype=dtype)
        values["last_launch"] = last_launch(context)
    context.record("smoke", operator=name, maps=maps, dtype=dtype, ok=ok, state=reply.state, **values)
    return ok


def last_launch(context: Context) -> str | None:
    """Return the last kernel launched by a worker; None if there was none, as in the interpreter."""
    with contextlib.suppress(OSError):
        return (context.scratch / LAUNCHED).read_text().strip() or None
    return None


def traced(task: str, name: str, maps: int | str, dtype: str) -> dict[str, Any]:
    """Check again, and store the name of each launched kernel, even if the process dies in it."""
    from triton import knobs

    from gpu_stages.problems import check

    file = os.open(Path(current().scratch, LAUNCHED), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def note(metadata: Any) -> None:
        os.pwrite(file, str(metadata.get().get("name", "")).ljust(120).encode(), 0)

    knobs.runtime.launch_enter_hook.add(note)
    try:
        return by_loops(name, maps, dtype) if task == "smoke.by_loops" else check(name, maps, dtype)
    finally:
        knobs.runtime.launch_enter_hook.remove(note)
        os.close(file)


def by_loops(name: str, maps: int | str, dtype: str) -> dict[str, Any]:
    """Measure errors on few maps against the loops of the reference."""
    import torch

    from gpu_stages.problems import GROSS, device, operator
    from mol_fast.checks.accuracy import accuracy

    found = accuracy(operator(name, maps), (getattr(torch, dtype),), device(), True)
    row: dict[str, Any] = {"problem": next((f"{item.backend}: {item.problem}" for item in found if item.problem), None)}
    for item in found:
        if item.backend == "triton" and item.forward and item.backward:
            measures = (item.forward, item.backward)
            row |= {"forward_error": item.forward.error, "backward_error": item.backward.error}
            row["gross"] = not all(measure.error <= GROSS * measure.budget for measure in measures)
    return row
