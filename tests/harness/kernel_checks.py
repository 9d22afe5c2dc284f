"""What the tests of the Triton kernels share: where they run, one call of an operator, what must not change it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from harness.compare import Layer, Params, run
from torch import Tensor

NATIVE = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
RUNS = [
    pytest.param("cpu", torch.float32, marks=pytest.mark.interpreter, id="interpreter-float32"),
    pytest.param("cpu", torch.float64, marks=pytest.mark.interpreter, id="interpreter-float64"),
    pytest.param("cuda", torch.float32, marks=NATIVE, id="gpu-float32"),
    pytest.param("cuda", torch.float16, marks=NATIVE, id="gpu-float16"),
    pytest.param("cuda", torch.bfloat16, marks=NATIVE, id="gpu-bfloat16"),
]
EMULATED = [
    pytest.param("cpu", torch.float32, marks=pytest.mark.emulated, id="emulated-float32"),
    pytest.param("cpu", torch.bfloat16, marks=pytest.mark.emulated, id="emulated-bfloat16"),
]
"""The interpreter with the products of a card: three of TF32 for one of float32, and those of bfloat16."""
each_run = pytest.mark.parametrize(("device", "dtype"), RUNS + EMULATED)
first_runs = pytest.mark.parametrize(("device", "dtype"), [RUNS[0], RUNS[2]])

on_gpu = pytest.mark.parametrize(("device", "dtype"), RUNS[2:])

LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    lambda t: t,
    lambda t: t.contiguous(memory_format=torch.channels_last),
    lambda t: t.mT.contiguous().mT,
    lambda t: torch.stack([t, t], dim=-1)[..., 0],
]
"""The same values with other strides: as they are (expanded), channels last, transposed, every other element."""


def cpu(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in results.items()}


def double(params: Params) -> Params:
    """The same leaves in float64, on the CPU."""
    return {name: value.detach().double().cpu().requires_grad_() for name, value in params.items()}


@dataclass(frozen=True)
class Problem:
    """One call of an operator and its backward: the layer, what makes its parameters, maps, a gradient of its output.

    `maps` names the parameters that are maps themselves.
    """

    layer: Layer
    params: Callable[[], Params]
    x: Tensor
    d: Tensor
    maps: tuple[str, ...] = ()

    def run(self) -> dict[str, Tensor]:
        return run(self.layer, self.params(), self.x, self.d)


Make = Callable[[torch.dtype, str], Problem]
"""Makes the same problem in any dtype, on any device."""


def operator_of(make: Make) -> str:
    """The name of the operator of a problem, which its module has."""
    return make.__module__.rpartition("_")[2]


def each(*problems: Make) -> pytest.MarkDecorator:
    """Run a test on these problems, named after their operators."""
    names = [operator_of(make) for make in problems]
    counts = Counter(names)
    places = {name: iter(range(counts[name])) for name in counts}
    return pytest.mark.parametrize("make", problems, ids=[f"{name}{next(places[name])}" for name in names])


def assert_same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Fail unless all results are equal bit for bit."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


def run_strided(layer: Callable[[Params, Tensor], Tensor], params: Params, x: Tensor, d: Tensor) -> dict[str, Tensor]:
    """`compare.run` without a copy of x, which would lose its strides."""
    leaf = x.detach().requires_grad_()
    y = layer(params, leaf)
    names = ["x", *params]
    return {"y": y.detach(), **dict(zip(names, torch.autograd.grad(y, [leaf, *params.values()], d), strict=True))}


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every empty floating-point tensor hold NaN."""

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def empty(*args: Any, **kwargs: Any) -> Tensor:
            out = make(*args, **kwargs)
            return out.fill_(torch.nan) if out.is_floating_point() else out

        return empty

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))


def replayed(function: Callable[[Tensor], Tensor], x: Tensor, fresh: Tensor) -> Tensor:
    """What a CUDA graph of `function`, captured with `x`, gives for `fresh`."""
    held = x.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function(held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = function(held)
    held.copy_(fresh)
    graph.replay()
    return y.clone()


def decide(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: int) -> None:
    """Change a number that decides how kernels are launched, and let launches that were prepared before go."""
    from mol_fast.kernels import prepared

    monkeypatch.setattr(owner, name, value)
    prepared.plan.cache_clear()


def count_launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which every launch adds its phase."""
    from mol_fast.kernels import common

    launched: list[str] = []
    start = common.Launch.start

    def counted(self: Any, *values: Any) -> Any:
        launched.append(self.phase)
        return start(self, *values)

    monkeypatch.setattr(common.Launch, "start", counted)
    return launched
