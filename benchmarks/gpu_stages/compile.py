"""Beside smoke and tuning: compile what times and training compare with, so that they find it in the cache.

Few processes with few threads each, as tuning needs the cores.
"""

import select

from gpu_stages.context import Context
from gpu_stages.times import cases
from gpu_stages.worker import Worker

WORKERS = 3
SECONDS = 150.0


def run(context: Context) -> None:
    layers = [
        ("layers.compile_once", {key: value for key, value in case.items() if key != "backend"})
        for case in cases(context, ("torch.compile",))
    ]
    jobs = [("steps.compile_once", {}), *layers]
    pool = [Worker(context, TORCHINDUCTOR_COMPILE_THREADS="2") for _ in range(WORKERS)]
    working = {}
    try:
        while context.left() > 0:
            for worker in pool:
                if worker not in working and jobs:
                    working[worker] = jobs.pop(0)
                    worker.send(working[worker][0], SECONDS, **working[worker][1])
            if not working:
                return
            busy = list(working)
            select.select(busy, [], [], 0.2)
            for worker in busy:
                if (reply := worker.receive()) is not None:
                    task, arguments = working.pop(worker)
                    context.record("compiled", task=task, **arguments, state=reply.state, problem=reply.error or None)
    finally:
        for worker in pool:
            worker.close()
