"""Stage 3: kernel and eager time of the layers, beside PyTorch and torch.compile, and the share of each kernel."""

from typing import Any

from gpu_stages import records
from gpu_stages.context import Context
from gpu_stages.worker import Worker

SECONDS, COMPILED_SECONDS = 10.0, 40.0
LAYERS = ("F5C", "CCC", "FCC", "correlation")
Case = dict[str, Any]


def cases(context: Context, backends: tuple[str, ...]) -> list[Case]:
    """What is measured, what matters most first: many maps before few, bfloat16 before float32, training first."""
    sizes = context.sizes
    return [
        {"name": name, "maps": maps, "dtype": dtype, "training": training, "backend": backend}
        for maps in sizes.maps
        for dtype in sizes.dtypes
        for training in (True, False)
        for name in LAYERS
        for backend in backends
    ]


def run(context: Context) -> None:
    ceilings = records.of_kind(records.read(context.out / records.FILE), "ceilings")
    rates = {key: ceilings[-1].get(key) for key in ("copy", "product")} if ceilings else {}
    if not rates.get("copy"):
        raise RuntimeError("the rates of the card are not known, as its stage failed")
    missing = 0
    with Worker(context) as worker:
        order = [*cases(context, ("triton", "torch"))]
        first = {case["maps"] for case in order[:1]}
        for case in [case for case in order if case["maps"] in first]:
            missing += not measure(context, worker, case, rates, SECONDS)
        profile(context, worker)
        rest = [case for case in cases(context, ("torch.compile",)) if case["maps"] in first]
        for case in rest:
            missing += not measure(context, worker, case, rates, COMPILED_SECONDS)
        others = [case for case in cases(context, ("triton", "torch", "torch.compile")) if case["maps"] not in first]
        for case in others:
            compiled = case["backend"] == "torch.compile"
            missing += not measure(context, worker, case, rates, COMPILED_SECONDS if compiled else SECONDS)
    if missing:
        raise RuntimeError(f"{missing} times are missing")


def measure(context: Context, worker: Worker, case: Case, rates: dict[str, Any], seconds: float) -> bool:
    """Measure one case and record it; whether there are times."""
    parts = ("FCC", "CCC") if case["name"] == "F5C" else (case["name"],)
    marked = [part for part in parts if f"{part}:{case['dtype']}" in context.failed]
    if case["backend"] == "triton" and marked:
        context.record("time", **case, problem=f"{' and '.join(marked)} failed in smoke")
        return False
    reply = worker.ask("layers.measure", seconds, **case, **rates)
    context.record("time", **case, **(reply.value if reply.ok else {"problem": reply.error}))
    return reply.ok


def profile(context: Context, worker: Worker) -> None:
    """Of a training step of the block, kernel by kernel."""
    dtype = context.sizes.dtypes[0]
    case = {"name": "F5C", "maps": context.sizes.maps[0], "dtype": dtype}
    if any(f"{part}:{dtype}" in context.failed for part in ("FCC", "CCC")):
        return
    reply = worker.ask("layers.profile", SECONDS, **case)
    context.record("profile", of="F5C", **case, **(reply.value if reply.ok else {"problem": reply.error}))
