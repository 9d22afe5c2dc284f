"""Stage 3: measure kernel and eager time of the layers, also of PyTorch and torch.compile, and profile the kernels."""

from typing import Any

from gpu_stages import records
from gpu_stages.context import Context
from gpu_stages.worker import Worker

SECONDS, COMPILED_SECONDS = 10.0, 40.0
Case = dict[str, Any]


def cases(context: Context, backends: tuple[str, ...]) -> list[Case]:
    """Return the cases, most important first: many maps before few, bfloat16 before float32, training first."""
    sizes = context.sizes
    return [
        {"name": name, "maps": maps, "dtype": dtype, "training": training, "backend": backend}
        for maps in sizes.maps
        for dtype in sizes.dtypes
        for training in (True, False)
        for name in sizes.layers
        for backend in backends
    ]


def run(context: Context) -> None:
    missing = 0
    most = context.sizes.maps[0]
    fast, compiled = cases(context, ("triton", "torch")), cases(context, ("torch.compile",))
    others = [case for case in cases(context, ("triton", "torch", "torch.compile")) if case["maps"] != most]
    with Worker(context) as worker:
        rates = known_rates(context, worker)
        for case in [case for case in fast if case["maps"] == most]:
            missing += not measure(context, worker, case, rates)
        profile(context, worker)
        for case in [*(case for case in compiled if case["maps"] == most), *others]:
            missing += not measure(context, worker, case, rates)
    if missing:
        raise RuntimeError(f"{missing} times are missing")


def known_rates(context: Context, worker: Worker) -> dict[str, Any]:
    """Return the measured rates of the card; measure them now if stage 0 failed to."""
    found = records.of_kind(records.read(context.out / records.FILE), "ceilings")
    if not found or not found[-1].get("copy"):
        reply = worker.ask("card.rates", SECONDS)
        if not reply.ok:
            raise RuntimeError(f"the rates of the card are not known: {reply.error}")
        context.record("ceilings", **reply.value)
        return reply.value
    return {key: found[-1][key] for key in ("copy", "product")}


def measure(context: Context, worker: Worker, case: Case, rates: dict[str, Any]) -> bool:
    """Measure and record one case, and return whether there are times."""
    seconds = COMPILED_SECONDS if case["backend"] == "torch.compile" else SECONDS
    parts = ("FCC", "CCC") if case["name"] == "F5C" else (case["name"],)
    marked = [part for part in parts if f"{part}:{case['dtype']}" in context.failed]
    if case["backend"] == "triton" and marked:
        context.record("time", **case, problem=f"{' and '.join(marked)} failed in smoke")
        return False
    reply = worker.ask("layers.measure", seconds, **case, **rates)
    context.record("time", **case, **(reply.value if reply.ok else {"problem": reply.error}))
    return reply.ok


def profile(context: Context, worker: Worker) -> None:
    """Profile forward and backward of the first layer, the block, kernel by kernel."""
    dtype = context.sizes.dtypes[0]
    case = {"name": context.sizes.layers[0], "maps": context.sizes.maps[0], "dtype": dtype}
    if any(f"{part}:{dtype}" in context.failed for part in ("FCC", "CCC")):
        return
    reply = worker.ask("layers.profile", SECONDS, **case)
    context.record("profile", **case, **(reply.value if reply.ok else {"problem": reply.error}))
