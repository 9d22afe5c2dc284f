"""Stage 1: the kernels of every operator against PyTorch, each in a dtype of its own; what fails is marked.

Launches block here, so that the kernel that was launched last is the one that failed.
"""

import contextlib
import os
from functools import cache
from pathlib import Path
from typing import Any

from gpu_stages.context import Context, current
from gpu_stages.worker import Worker

LAUNCHED = "launched"
"""File in the scratch folder with the name of the kernel that was launched last."""

SECONDS = 15.0
"""Of one check, beyond which it is taken to hang."""


def run(context: Context) -> None:
    sizes, failed = context.sizes, 0
    cases = [(name, maps, dtype) for maps in sizes.maps[:1] for dtype in sizes.dtypes for name in sizes.operators]
    with Worker(context, CUDA_LAUNCH_BLOCKING="1") as worker:
        for name, maps, dtype in cases:
            failed += not judge(context, worker, "smoke.at_size", name, maps, dtype)
        for name in sizes.operators:
            for dtype in sizes.dtypes:
                failed += not judge(context, worker, "smoke.by_loops", name, 0, dtype)
        for name in sizes.operators:
            for dtype in sizes.dtypes:
                failed += not judge(context, worker, "smoke.at_size", name, sizes.maps[-1] // 4 or 1, dtype)
    if failed:
        raise RuntimeError(f"{failed} checks failed or were not made")


def judge(context: Context, worker: Worker, task: str, name: str, maps: int, dtype: str) -> bool:
    """Make one check and record it; whether the kernels are right."""
    arguments = {"name": name, "dtype": dtype} | ({"maps": maps} if maps else {})
    reply = worker.ask(task, SECONDS, **arguments)
    values: dict[str, Any] = reply.value if reply.ok else {"problem": reply.error}
    if reply.state == "late":
        context.record("smoke", operator=name, maps=maps, dtype=dtype, ok=None, problem=reply.error)
        return False
    ok = values["problem"] is None
    if not ok:
        values["last_launch"] = last_launch(context)
    context.record("smoke", operator=name, maps=maps, dtype=dtype, ok=ok, state=reply.state, **values)
    return ok


def last_launch(context: Context) -> str | None:
    """The kernel that a worker launched last; None where none was, as in the interpreter."""
    with contextlib.suppress(OSError):
        return (context.scratch / LAUNCHED).read_text().strip() or None
    return None


@cache
def note_launches() -> None:
    """Keep the name of the kernel that is launched, also from a process that dies in it."""
    from triton import knobs

    file = os.open(Path(current().scratch, LAUNCHED), os.O_WRONLY | os.O_CREAT)

    def note(metadata: Any) -> None:
        os.pwrite(file, str(metadata.get().get("name", "")).ljust(120).encode(), 0)

    knobs.runtime.launch_enter_hook.add(note)


def at_size(name: str, maps: int, dtype: str) -> dict[str, Any]:
    """Errors at a size of the training, against PyTorch in float64."""
    from gpu_stages.problems import check

    note_launches()
    return check(name, maps, dtype)


def by_loops(name: str, dtype: str) -> dict[str, Any]:
    """Errors on a small shape without symmetry, against the reference in loops."""
    import torch

    from mol_fast.checks.accuracy import accuracy
    from mol_fast.checks.operators import CCC, Correlation, FCCTraining

    note_launches()
    if current().rehearsal:  # the loops are slow, and the tests run them
        asked = {"FCC": FCCTraining((2, 2, 2, 3)), "CCC": CCC((1, 3, 2, 3), neighbors=2)}.get(
            name, Correlation((1, 2, 2, 3))
        )
    else:
        asked = {"FCC": FCCTraining((6, 6, 5, 12), groups=2), "CCC": CCC((3, 6, 5, 12), neighbors=2)}.get(
            name, Correlation((2, 6, 5, 12))
        )
    found = accuracy(asked, (getattr(torch, dtype),), torch.device(current().sizes.device), True)
    row: dict[str, Any] = {"problem": next((f"{item.backend}: {item.problem}" for item in found if item.problem), None)}
    for item in found:
        if item.backend == "triton" and item.forward and item.backward:
            row |= {"forward_error": item.forward.error, "backward_error": item.backward.error}
    return row
