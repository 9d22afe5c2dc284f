"""Tasks of workers on one operator: prepare inputs and exact results, check its kernels, time them.

Exact results come from the batched PyTorch path in float64 on the same device, which the tests and `smoke.by_loops`
compare with the reference. Budgets are those of `mol_fast.checks.accuracy`.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_stages.context import current
from mol_fast.checks import accuracy, timing
from mol_fast.checks.operators import CCC, LEAST_GAP, Correlation, FCCTraining, Operator, Tensors

GROSS, WORSE = 10.0, 1.5
"""Factor on the budget, above which an error does not come from rounding; factor on the error of the pinned tiles that
other tiles may have, because they sum in another order."""
SPARE = 1.5
"""Maps drawn per map needed, because maps whose neighbours rounding could change are dropped."""


@dataclass(frozen=True, eq=False)
class Problem:
    """An operator in a dtype: inputs, exact results, and error budgets of both passes."""

    operator: Operator
    dtype: torch.dtype
    inputs: Tensors
    gradient: Tensor
    outputs: Tensors
    gradients: Tensors
    budgets: dict[str, float]

    def evaluate(self, backend: str) -> tuple[Tensors, Tensors]:
        """Return the outputs and gradients of `backend`."""
        return accuracy.evaluate(
            lambda leaves: self.operator.fast(leaves, backend), self.inputs, self.operator.constants, self.gradient
        )

    def leaves(self) -> Tensors:
        constants = self.operator.constants
        return {name: value.clone().requires_grad_(name not in constants) for name, value in self.inputs.items()}


def device() -> torch.device:
    return torch.device(current().sizes.device)


def operator(name: str, maps: int | str) -> Operator:
    """Return the operator with `maps` maps of a training step; the correlation compares half as many pairs.

    `maps` may also be "odd" (maps without symmetry) or "small" (maps for the memory checker).
    """
    sizes = current().sizes
    if maps == "odd":
        shape, groups, neighbors = (sizes.odd, 2, 2)
        other = sizes.odd
    elif maps == "small":
        shape, groups, neighbors = (sizes.small, 1, sizes.neighbors)
        other = sizes.small
    else:
        shape, groups, neighbors = (int(maps), sizes.channels, sizes.side, sizes.side), 1, sizes.neighbors
        other = (max(1, int(maps) // 2), 2 * sizes.channels, sizes.side, sizes.side)
    if name == "FCC":
        return FCCTraining(shape, groups=groups)
    return CCC(shape, neighbors=neighbors) if name == "CCC" else Correlation(other)


@lru_cache(maxsize=8)
def problem(name: str, maps: int | str, dtype: str) -> Problem:
    """Return the problem of an operator in `dtype`, with inputs that are exact in it.

    The budgets are twice the error of PyTorch, plus one rounding; in the backward also the error of undecided
    gradients.
    """
    asked, kind, where = operator(name, maps), getattr(torch, dtype), device()
    generator = torch.Generator().manual_seed(0)
    exact = drawn(asked, generator, kind, where)
    gradient = torch.randn(asked.output_shape, generator=generator).to(where, kind)
    kept = {key: kind if key in asked.maps else torch.float32 for key in exact}
    inputs = {key: value.to(kept[key]) for key, value in exact.items()}
    true = accuracy.evaluate(lambda leaves: asked.fast(leaves, "torch"), exact, asked.constants, gradient.double())
    plain = accuracy.evaluate(lambda leaves: asked.fast(leaves, "torch"), inputs, asked.constants, gradient)
    eps = torch.finfo(kind).eps
    flips = 2 * accuracy.undecided(asked, exact, gradient.double(), kind) ** 0.5
    budgets = {"forward": 2 * error(plain[0], true[0]) + eps, "backward": 2 * error(plain[1], true[1]) + eps + flips}
    return Problem(asked, kind, inputs, gradient, *true, budgets)


def drawn(asked: Operator, generator: torch.Generator, dtype: torch.dtype, where: torch.device) -> Tensors:
    """Draw inputs in float64, with values exact in `dtype` (parameters: float32)."""
    maps = asked.shape[0]
    if isinstance(asked, CCC):
        more = CCC((int(SPARE * maps) + 1, *asked.shape[1:]), neighbors=asked.neighbors)
        inputs = more.draw(generator)
    else:
        inputs = asked.draw(generator)
    inputs = {
        name: value.to(where).to(dtype if name in asked.maps else torch.float32).double()
        for name, value in inputs.items()
    }
    if isinstance(asked, CCC):
        inputs["x"] = clear(inputs["x"], asked.neighbors, maps)
    return inputs


def clear(x: Tensor, neighbors: int, maps: int) -> Tensor:
    """Select `maps` maps whose neighbours rounding in float32 cannot change; repeat them if there are too few."""
    unit = F.normalize(x.flatten(2), dim=2)
    similarity = (unit @ unit.mT).topk(neighbors + 1, dim=2).values
    gap = (similarity[..., -2] - similarity[..., -1]).amin(dim=1)
    sure = torch.nonzero(gap > LEAST_GAP).flatten()
    if not sure.numel():
        raise RuntimeError("no map has clear neighbours")
    return x[sure[torch.arange(maps, device=x.device) % sure.numel()]].contiguous()


def prepare(name: str, maps: int | str, dtype: str) -> dict[str, Any]:
    """Draw the inputs and compute the exact results, for later checks."""
    problem(name, maps, dtype)
    return {}


def error(actual: Tensors, exact: Tensors) -> float:
    """Return the root mean square of the relative errors; raise RuntimeError if a result is missing or misshapen."""
    squares = []
    for name, value in exact.items():
        if name not in actual or actual[name].shape != value.shape:
            raise RuntimeError(f"the result for {name} is missing or has a wrong shape")
        squares.append(float((actual[name].double() - value).norm() / value.norm()) ** 2)
    return float((sum(squares) / len(squares)) ** 0.5)


def check(name: str, maps: int | str, dtype: str, tiles: dict[str, dict[str, int]] | None = None) -> dict[str, Any]:
    """Check the kernels: return errors, budgets, `problem`, and `gross` (True if rounding is not the cause).

    The kernels run twice: first compiled, with buffers full of NaN, then with replayed launches. Both runs must be
    bit-identical.
    """
    asked = problem(name, maps, dtype)
    with tiled(tiles):
        with poison():
            first = asked.evaluate("triton")
        outputs, gradients = asked.evaluate("triton")
    found: dict[str, Any] = {"problem": different({**first[0], **first[1]}, {**outputs, **gradients})}
    found["gross"] = found["problem"] is not None
    for phase, actual, exact in (("forward", outputs, asked.outputs), ("backward", gradients, asked.gradients)):
        value, budget = error(actual, exact), asked.budgets[phase]
        found |= {f"{phase}_error": value, f"{phase}_budget": budget}
        found["gross"] = found["gross"] or not value <= GROSS * budget
        if not value <= budget and found["problem"] is None:
            worst = max(exact, key=lambda key: float((actual[key].double() - exact[key]).norm() / exact[key].norm()))
            found["problem"] = f"the error of the {phase} is {value:.1e}, over its budget {budget:.1e}, most in {worst}"
    return found


def different(first: Tensors, second: Tensors) -> str | None:
    """Return the difference of two runs, or None."""
    names = [name for name, value in first.items() if not torch.equal(value, second[name])]
    return f"two runs differ in {' and '.join(names)}" if names else None


@contextmanager
def poison() -> Iterator[None]:
    """Inside the context, fill allocated memory with NaN, to show what a kernel does not write."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def measure(name: str, maps: int, dtype: str, phase: str, tiles: dict[str, dict[str, int]] | None) -> dict[str, Any]:
    """Check the kernels with these tiles, then time forward, or forward and backward.

    Tiles are also timed if the error is slightly over budget (smoke reports that), unless they increase it.
    """
    began = time.monotonic()
    found = check(name, maps, dtype, tiles)
    found["check_s"] = time.monotonic() - began
    if not found["gross"] and (tiles is None or not worse(found, pinned(name, maps, dtype))):
        found["problem"] = None
        with tiled(tiles):
            found["seconds"] = kernel_time(calls(problem(name, maps, dtype))[phase])
    return found


@cache
def pinned(name: str, maps: int, dtype: str) -> dict[str, Any]:
    """Return the errors with the current tiles."""
    return check(name, maps, dtype)


def worse(found: dict[str, Any], base: dict[str, Any]) -> bool:
    """Return True if an error is over its budget and clearly larger than that of `base`."""
    return any(
        found[f"{phase}_error"] > max(found[f"{phase}_budget"], WORSE * base[f"{phase}_error"])
        for phase in ("forward", "backward")
    )


def calls(asked: Problem) -> dict[str, Callable[[], object]]:
    """Return the functions to time, by pass: forward as in training, and forward with backward."""
    leaves = asked.leaves()
    wanted = [leaf for leaf in leaves.values() if leaf.requires_grad]

    def forward() -> Tensor:
        return asked.operator.fast(leaves, "triton")["y"]

    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(forward(), wanted, asked.gradient),
    }


def tiled(tiles: dict[str, dict[str, int]] | None) -> AbstractContextManager[object]:
    """Return a context in which kernels run with other tiles, and raise if the tiles do not fit."""
    if not tiles:
        return nullcontext()
    from mol_fast.kernels.tiles import override

    stack = ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("error", message=".*pinned tiles")
    stack.enter_context(override(tiles))
    return stack


def kernel_time(function: Callable[[], object]) -> float:
    """Measure seconds by the replay of a graph; in a rehearsal, of one call by the wall clock."""
    if device().type == "cuda":
        try:
            return timing.kernel_time(function, device(), stream=stream())
        finally:
            torch.cuda.empty_cache()  # memory of a graph is not reused
    return wall_time(function)


@cache
def stream() -> "torch.cuda.Stream":
    """Return the one stream of all timings, because streams do not share memory."""
    return torch.cuda.Stream()


def wall_time(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def both_times(function: Callable[[], object]) -> dict[str, Any]:
    """Measure kernel and eager time; `problem` says why a function cannot be recorded."""
    if device().type == "cuda":
        found = timing.times(function, device(), stream=stream())
        torch.cuda.empty_cache()
        return {"kernel_s": found.kernel, "eager_s": found.eager, "problem": found.problem}
    seconds = wall_time(function)
    return {"kernel_s": seconds, "eager_s": seconds, "problem": None}


def floor(launches: list[Any], dtype: str, copy: float, product: dict[str, float]) -> float:
    """Return the least seconds of the launches, by the measured rates."""
    rate = product[dtype]
    return sum(max(launch.bytes / copy, launch.flops / rate) for launch in launches)
