"""A stand-in for a GPU: streams, events and graphs of `torch.cuda` on a clock that only its own work moves.

It is as strict as CUDA where code can go wrong: while a stream records, nothing may wait for the GPU, and what is
called on another stream ends the recording. Work is queued by `work`, which stands for a kernel.
"""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch


class FakeGPU:
    """The state of the GPU; `install` puts it in the place of `torch.cuda`'s own."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.happened: list[str] = []
        """"wait", "work", "replay", in their order."""
        self.default = self.stream = FakeStream(self)
        self.recording: FakeGraph | None = None
        self.recording_on: FakeStream | None = None
        self.graphs: list[FakeGraph] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Graph(FakeGraph):
            gpu = self

        class Event(FakeEvent):
            gpu = self

        for name, value in {
            "CUDAGraph": Graph,
            "Event": Event,
            "Stream": lambda device=None: FakeStream(self),
            "stream": self.using,
            "graph": self.record,
            "current_stream": lambda device=None: self.stream,
            "synchronize": self.synchronize,
            "device": lambda device: self.using(self.stream),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def work(self, seconds: float) -> None:
        """Queue a kernel of `seconds` on the current stream."""
        if self.recording is None:
            self.seconds += seconds
            self.happened.append("work")
        elif self.stream is not self.recording_on:
            raise RuntimeError("CUDA error: operation would make the legacy stream depend on a capturing stream")
        else:
            self.recording.kernels.append(seconds)

    def synchronize(self, device: Any = None) -> None:
        if self.recording is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nsecond line")
        self.happened.append("wait")

    @contextmanager
    def using(self, stream: "FakeStream") -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    @contextmanager
    def record(self, graph: "FakeGraph", stream: "FakeStream") -> Iterator[None]:
        self.synchronize()
        self.recording, self.recording_on, self.stream = graph, stream, stream
        try:
            yield
        except BaseException:
            self.recording = None
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from None
        self.recording = None


class FakeStream:
    def __init__(self, gpu: FakeGPU) -> None:
        self.gpu = gpu

    def wait_stream(self, other: "FakeStream") -> None:
        assert isinstance(other, FakeStream)


class FakeGraph:
    gpu: FakeGPU

    def __init__(self) -> None:
        self.kernels: list[float] = []
        self.gpu.graphs.append(self)

    def replay(self) -> None:
        assert self.kernels, "a graph without kernels, or one that was reset"
        self.gpu.happened.append("replay")
        self.gpu.seconds += sum(self.kernels)

    def reset(self) -> None:
        self.kernels.clear()


class FakeEvent:
    gpu: FakeGPU

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing, "an event without timing has no time"

    def record(self) -> None:
        self.at = self.gpu.seconds

    def elapsed_time(self, other: "FakeEvent") -> float:
        """Milliseconds."""
        return 1e3 * (other.at - self.at)


def stepping(step: float) -> types.SimpleNamespace:
    """A module `time` whose clock goes on by `step` seconds at every look."""
    now = [0.0]

    def perf_counter() -> float:
        now[0] += step
        return now[0]

    return types.SimpleNamespace(perf_counter=perf_counter)
