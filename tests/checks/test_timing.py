"""The stopwatch: what its two figures hold and leave out, on a stand-in for a GPU, and the ceilings of a CPU."""

import pytest
import torch
from harness.fake_gpu import FakeGPU, stepping
from torch import Tensor

from mol_fast.checks import timing

DEVICE = torch.device("cpu")
FLUSH = 0.25
"""Seconds on the GPU to flush the cache."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGPU:
    gpu = FakeGPU()
    gpu.install(monkeypatch)
    monkeypatch.setattr(timing, "FLUSH_BYTES", 4)

    def flush(x: Tensor, dim: int, out: Tensor) -> Tensor:
        gpu.work(FLUSH)
        return out

    monkeypatch.setattr(torch, "sum", flush)
    return gpu


def test_kernel_time_is_the_work_of_the_gpu(gpu: FakeGPU) -> None:
    def function() -> None:
        gpu.work(0.5)
        gpu.work(0.125)

    assert timing.kernel_time(function, DEVICE) == 0.625
    replays = [i for i, what in enumerate(gpu.happened) if what == "replay"]
    assert len(replays) >= 2 + timing.LEAST_REPLAYS
    assert all(gpu.happened[i - 1] == "work" for i in replays[2:])  # a flush
    assert gpu.happened[replays[2] : replays[-1]].count("wait") == 0
    assert gpu.stream is gpu.default
    assert not gpu.graphs[0].kernels  # memory is given back


def test_the_gpu_flushes_until_the_replay_is_queued(gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queueing a replay and flushing once both take a second: three flushes are longer."""
    monkeypatch.setattr(timing, "time", stepping(1.0))
    timing.kernel_time(lambda: gpu.work(0.5), DEVICE)
    last = len(gpu.happened) - 1 - gpu.happened[::-1].index("replay")
    before = last - 1 - gpu.happened[:last][::-1].index("replay")
    assert gpu.happened[before + 1 : last] == ["work"] * 3


def test_eager_time_waits_once_a_round(gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "time", stepping(0.001))
    device = torch.device("cuda")
    assert timing.eager_time(lambda: gpu.work(0.5), device) == pytest.approx(0.001 / 30)
    rounds = "".join("|" if what == "wait" else "w" for what in gpu.happened).split("||")
    assert [part.strip("|") for part in rounds[-timing.ROUNDS :]] == ["w" * 30] * timing.ROUNDS


def test_calls_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for step, expected in ((1.0, 1), (timing.ROUND_SECONDS / 10, 10), (1e-9, timing.MOST_CALLS)):
        monkeypatch.setattr(timing, "time", stepping(step))
        assert timing.calls_per_round(lambda: calls.append(1), timing.Clock(DEVICE)) == expected
    assert len(calls) == 3 * timing.WARM_UP


def test_what_waits_has_no_kernel_time(gpu: FakeGPU) -> None:
    def function() -> None:
        gpu.work(1.0)
        torch.cuda.synchronize()

    with pytest.raises(RuntimeError, match=r"must not wait for the GPU: CUDA error: .* capturing$"):
        timing.kernel_time(function, DEVICE)
    assert gpu.stream is gpu.default
    found = timing.times(function, DEVICE)
    assert (found.kernel, found.eager > 0) == (None, True)
    assert "must not wait" in (found.problem or "")
    assert timing.kernel_time(lambda: gpu.work(1.0), DEVICE) == 1.0


def test_a_backward_is_recorded_where_its_forward_ran(gpu: FakeGPU) -> None:
    def backward_on(stream: torch.cuda.Stream) -> None:
        with torch.cuda.stream(stream):
            gpu.work(1.0)

    stream = torch.cuda.Stream()
    assert timing.times(lambda: backward_on(stream), DEVICE, stream=stream).kernel == 1.0
    assert timing.times(lambda: backward_on(stream), DEVICE).kernel is None


def test_what_fails_by_itself_is_not_called_a_failed_recording(gpu: FakeGPU) -> None:
    def function() -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        timing.kernel_time(function, DEVICE)
    assert gpu.stream is gpu.default


def test_ceilings_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PRODUCT_SIDE", {"cpu": 8})
    monkeypatch.setattr(timing, "COPY_BYTES", {"cpu": 64})
    monkeypatch.setattr(timing, "time", stepping(1.0))  # a round of one call takes a second
    found = timing.ceilings(DEVICE, (torch.float32, torch.float64))
    assert (found.copy, found.product) == (128, {torch.float32: 1024, torch.float64: 1024})
    assert found.floor(256, 1024, torch.float32) == 2
    assert found.floor(256, 4096, torch.float32) == 4
    assert found.floor(256, 0, torch.bfloat16) == 2


def test_float32_may_be_three_tf32_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU with matrix units; the setting is as before afterwards."""

    def eager_time(function: object, device: torch.device, rounds: int) -> float:
        return {"highest": 4.0, "high": 1.0}[torch.get_float32_matmul_precision()]

    fill = lambda *shape, device: torch.zeros(shape)  # noqa: E731
    monkeypatch.setattr(timing, "PRODUCT_SIDE", {"cuda": 8})
    monkeypatch.setattr(timing, "eager_time", eager_time)
    monkeypatch.setattr(torch, "randn", fill)
    assert timing.product_rate(torch.device("cuda"), torch.float32) == pytest.approx(1024 / 3)
    assert timing.product_rate(torch.device("cuda"), torch.bfloat16) == 256
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu() -> None:
    device = torch.device("cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = torch.randn(256, 256, device=device, requires_grad=True)
        y = (x @ x).relu()
    found = timing.times(lambda: torch.autograd.grad(y.sum(), x, retain_graph=True), device, stream=stream)
    assert found.problem is None
    assert found.kernel is not None
    assert 0 < found.kernel < 1
    assert 0 < found.eager < 1
    with pytest.raises(RuntimeError, match="must not wait for the GPU"):
        timing.kernel_time(lambda: x.sum().item(), device)
    assert timing.kernel_time(lambda: x.detach() @ x.detach(), device) > 0
    measured = timing.ceilings(device)
    assert min(measured.copy, *measured.product.values()) > 0
