"""Stage 4: measure a whole training step of the model."""

from gpu_stages.context import Context
from gpu_stages.worker import Worker

SECONDS, COMPILED_SECONDS = 15.0, 60.0


def run(context: Context) -> None:
    first, *others = context.sizes.dtypes
    cases = [("eager", first, "triton"), ("graph", first, "triton"), ("no_waiting", first, "triton")]
    cases += [("profile", first, "triton"), ("eager", first, "torch")]
    cases += [(what, dtype, "triton") for dtype in others for what in ("eager", "graph")]
    cases += [("compiled", first, "triton")]
    missing = 0
    with Worker(context) as worker:
        for what, dtype, backend in cases:
            if what == "compiled" and context.sizes.device == "cuda":
                worker.close()  # its graphs hold memory
            seconds = COMPILED_SECONDS if what == "compiled" else SECONDS
            reply = worker.ask(f"steps.{what}", seconds, dtype=dtype, backend=backend)
            values = reply.value if reply.ok else {"problem": reply.error}
            context.record("step", what=what, dtype=dtype, backend=backend, clips=context.sizes.clips, **values)
            missing += not reply.ok
    if missing:
        raise RuntimeError(f"{missing} of {len(cases)} figures are missing")
