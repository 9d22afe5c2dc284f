"""Workers: processes with PyTorch and the GPU that run one task after another, and may die or hang.

After an illegal address, a process can do nothing more on the GPU. So every task on the GPU runs in a worker. A worker
that failed this way, died or hung is replaced before the next task.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from gpu_stages import processes
from gpu_stages.context import Context, current, interpreter
from gpu_stages.stage import in_a_line

START = 60.0
"""Additional seconds for the first task of a new worker, for imports and initialisation of the GPU."""


class Reply(NamedTuple):
    """Outcome of a task: "ok" with a value; "failed", "died", "hung" or "late" (no time was left) with an error."""

    state: str
    value: Any = None
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.state == "ok"


class Worker:
    """A process that runs tasks `MODULE.FUNCTION` of this package. It starts with the first task."""

    def __init__(self, context: Context, log: IO[bytes] | int | None = None, **environment: str) -> None:
        self.context, self.log, self.environment = context, log, environment
        self.process: subprocess.Popen[bytes] | None = None
        self.limit = 0.0
        """Time limit of the current task, of `time.monotonic`."""
        self.busy = False
        self.fresh = True
        self.buffer = b""

    def fileno(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def ask(self, task: str, seconds: float, **arguments: Any) -> Reply:
        """Run a task and wait for it, at most `seconds` and never beyond the deadline of the stage."""
        if self.context.left() <= 0:
            return Reply("late", error="no time was left")
        self.send(task, seconds, **arguments)
        while (reply := self.receive()) is None:
            select.select([self], [], [], max(0.0, min(0.5, self.limit - time.monotonic())))
        return reply

    def send(self, task: str, seconds: float, **arguments: Any) -> None:
        """Start a task with a limit of `seconds`, and more in a new process."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        allowed = self.context.allowed(seconds + (START if self.fresh else 0.0))
        self.limit = time.monotonic() + max(0.0, min(allowed, self.context.left()))
        self.busy = True
        with contextlib.suppress(BrokenPipeError):  # the process has died; `receive` reports it
            self.process.stdin.write((json.dumps({"task": task, "arguments": arguments}) + "\n").encode())
            self.process.stdin.flush()

    def receive(self) -> Reply | None:
        """Return the reply to the current task, or None if there is none yet. End a worker that is unusable."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self], [], [], 0)
        if ready:
            data = os.read(self.fileno(), 2**16)
            self.buffer += data
            if b"\n" in self.buffer:
                line, _, self.buffer = self.buffer.partition(b"\n")
                return self._answered(json.loads(line))
            if not data:
                code = self.process.wait()
                self.close()
                return Reply("died", error=f"the process ended with code {code}")
        if time.monotonic() < self.limit:
            return None
        late = self.context.left() <= 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)  # write its stack to the log
            time.sleep(0.2)
        self.close()
        return Reply("late", error="no time was left") if late else Reply("hung", error="it did not end in time")

    def _answered(self, answer: dict[str, Any]) -> Reply:
        self.busy = self.fresh = False
        if answer["fatal"]:
            self.close()
        return Reply(answer["state"], answer.get("value"), answer.get("error", ""))

    def _start(self) -> None:
        self.close()
        self.fresh = True
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpu_stages.worker"],
            env={**self.context.environment(), **self.environment},
            cwd=self.context.scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def close(self) -> None:
        """End the process and its descendants."""
        process, self.process, self.busy, self.buffer = self.process, None, False, b""
        if process is None:
            return
        family = processes.descendants(process.pid)
        process.kill()
        processes.kill_all(family)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process that waits in the driver ends later
            process.wait(processes.GRACE)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def pool(context: Context, count: int, **environment: str) -> Iterator[list[Worker]]:
    """Provide workers, at least one, and end them when the context ends."""
    workers = [Worker(context, **environment) for _ in range(max(1, count))]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.close()


class Jobs:
    """A queue of tasks, shared by workers."""

    def __init__(self, workers: list[Worker], jobs: list[tuple[str, dict[str, Any]]], seconds: float) -> None:
        self.workers, self.jobs, self.seconds = workers, list(jobs), seconds
        self.work: dict[Worker, tuple[str, dict[str, Any]]] = {}

    def begin(self) -> None:
        """Give a task to every idle worker."""
        for worker in self.workers:
            if worker not in self.work and self.jobs:
                self.work[worker] = task, arguments = self.jobs.pop(0)
                worker.send(task, self.seconds, **arguments)

    def finish(self, end: float, done: Callable[[str, dict[str, Any], Reply], None] = lambda *_: None) -> None:
        """Run until all tasks are done, or until `end`; call `done` for each."""
        while self.work and time.monotonic() < end:
            busy = list(self.work)
            select.select(busy, [], [], max(0.0, min(0.2, end - time.monotonic())))
            for worker in busy:
                if (reply := worker.receive()) is not None:
                    done(*self.work.pop(worker), reply)
            self.begin()


def poisoned() -> bool:
    """Return True if this process can no longer use the GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Run the requested tasks, line by line."""
    for line in requests:
        request = json.loads(line)
        module, _, function = request["task"].partition(".")
        try:
            value = getattr(importlib.import_module(f"gpu_stages.{module}"), function)(**request["arguments"])
            answer = {"state": "ok", "value": value, "fatal": False}
        except Exception as error:  # an error of a task is its result
            traceback.print_exc()
            answer = {"state": "failed", "error": in_a_line(error), "fatal": poisoned()}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()
        if answer["fatal"]:
            return


def main() -> None:
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a task's output is not a reply
    with interpreter(current()):
        serve(sys.stdin, replies)
    replies.flush()
    os._exit(0)  # skip the clean-up, because the GPU may not answer


if __name__ == "__main__":
    main()
