"""Concurrent with smoke and tuning: fill the compiler's cache for the stages times and training.

Uses few processes with few threads, because tuning needs the cores.
"""

import time
from typing import Any

from gpu_stages.context import Context
from gpu_stages.times import cases
from gpu_stages.worker import Jobs, Reply, pool

WORKERS = 3
SECONDS = 150.0


def run(context: Context) -> None:
    first = context.sizes.dtypes[0]
    jobs = [
        ("layers.compile_once", {key: value for key, value in case.items() if key != "backend"})
        for case in cases(context, ("torch.compile",))
    ][: context.sizes.most_compiled]
    if not context.rehearsal:  # which compiles the model once, in training
        jobs = [("steps.compiled", {"dtype": first, "backend": "triton"}), *jobs]

    def done(task: str, arguments: dict[str, Any], reply: Reply) -> None:
        context.record("compiled", task=task, **arguments, state=reply.state, problem=reply.error or None)

    with pool(context, min(WORKERS, len(jobs)), TORCHINDUCTOR_COMPILE_THREADS="2") as workers:
        work = Jobs(workers, jobs, SECONDS)
        work.begin()
        work.finish(time.monotonic() + context.left(), done)
