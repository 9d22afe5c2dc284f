"""The operators to time: module, input, reference, and an implementation in plain PyTorch layers."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import counts
import torch
import torch.nn.functional as F
from backends import autocast, of_loops, of_module
from gate import Errors, Results, errors_of
from harness.compare import (
    Params,
    as_layer,
    assert_runs_equal,
    neighbour_gap,
    plain_ccc,
    plain_fcc,
    randomise,
    run,
    seeded,
    state,
)
from torch import Tensor, nn

from mol_fast import CCC, F5C, FCC, functional
from mol_fast import reference as ref
from mol_fast.ops.ccc import neighbours

CHANNELS, SIDE, NEIGHBOURS, SLOPE = 128, 16, 4, 0.1
SMALL = 4
"""Most maps for which the reference itself runs in float64; more maps use the batched path, checked at this number."""
FEW = 32
"""Most maps for which problems and their results are small."""
CLEAR, APART, SHARE = 3e-6, 1.5e-6, 0.8
"""Least difference, beyond rounding in float32, of similarities, and of values that a maximum or ReLU compares
(relative); and least share of maps that must have both."""


class Correlation(nn.Module):
    """Correlation with `n` maps, which are a parameter, and LeakyReLU."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.other = nn.Parameter(representable(n, 2 * CHANNELS, seed=1))
        self.backend = "auto"

    def forward(self, x: Tensor) -> Tensor:
        return functional.correlation(x, self.other, negative_slope=SLOPE, backend=self.backend)


@dataclass(frozen=True)
class Operator:
    """An operator to time. `reference` and `plain` are called with parameters, maps, and whether in training."""

    name: str
    build: Callable[[int], nn.Module]
    reference: Callable[[Params, Tensor, bool], Tensor]
    plain: Callable[[Params, Tensor, bool], Tensor]
    flops: Callable[[int, bool], int]
    nodes: Callable[[nn.Module, Tensor], Tensor] | None = None
    """Returns the maps in which neighbours are searched."""
    inputs: int = CHANNELS
    outputs: int = CHANNELS

    def bytes(self, n: int, training: bool, dtype: torch.dtype) -> int:
        """Return the least traffic in bytes: inputs and outputs once; in training again, and the gradients of both."""
        inputs = self.inputs * (2 if self.name == "correlation" else 1)
        elements = n * SIDE**2 * (3 * inputs + 2 * self.outputs if training else inputs + self.outputs)
        return elements * dtype.itemsize


def _plain_f5c(params: Params, x: Tensor, training: bool) -> Tensor:
    return plain_ccc(ref.sub(params, "ccc"), plain_fcc(ref.sub(params, "fcc"), x, training), NEIGHBOURS, "paper")


def _loops_correlation(params: Params, x: Tensor, training: bool) -> Tensor:
    return F.leaky_relu(ref.correlation(x, params["other"]), SLOPE)


OPERATORS = (
    Operator("FCC", lambda n: FCC(CHANNELS, SIDE), ref.fcc, plain_fcc, counts.fcc),
    Operator(
        "CCC",
        lambda n: CCC(CHANNELS, SIDE, NEIGHBOURS),
        lambda p, x, training: ref.ccc_paper(p, x, NEIGHBOURS),
        lambda p, x, training: plain_ccc(p, x, NEIGHBOURS, "paper"),
        counts.ccc,
        lambda module, x: x,
    ),
    Operator(
        "F5C",
        lambda n: F5C(CHANNELS, SIDE, NEIGHBOURS),
        lambda p, x, training: ref.f5c(p, x, NEIGHBOURS, "paper", training),
        _plain_f5c,
        counts.f5c,
        lambda module, x: module.fcc(x),
    ),
    Operator(
        "correlation",
        Correlation,
        _loops_correlation,
        _loops_correlation,
        counts.correlation,
        inputs=2 * CHANNELS,
        outputs=21**2,
    ),
)


@dataclass(frozen=True, eq=False)
class Problem:
    """An operator on `n` maps, with its exact results.

    Maps whose neighbours rounding could change are not `clear`: they get no gradient and are not compared.
    """

    operator: Operator
    n: int
    module: nn.Module
    x: Tensor
    g: Tensor
    clear: Tensor
    exact: Results
    plain: dict[torch.dtype, Errors] = field(default_factory=dict)
    """Cached errors of PyTorch's plain layers, by dtype."""

    def results(self, layer: Callable[[Params, Tensor], Tensor], dtype: torch.dtype) -> Results:
        """Return the results of `layer` with all parameters in `dtype`."""
        return _results(layer, state(self.module, dtype), self.x.to(dtype), self.g, self.clear, self.module.training)

    def plain_errors(self, dtype: torch.dtype) -> Errors:
        """Return the errors of PyTorch's plain layers."""
        if dtype not in self.plain:
            operator, training = self.operator, self.module.training
            plain = self.results(lambda params, x: operator.plain(params, x, training), dtype)
            self.plain[dtype] = errors_of(plain, self.exact)
        return self.plain[dtype]


def problem(operator: Operator, n: int, training: bool, device: torch.device) -> Problem:
    """Return the problem of `n` maps. All small problems are cached, but only the last large one."""
    return (_kept if n <= FEW else _last)(operator, n, training, device)


def _problem(operator: Operator, n: int, training: bool, device: torch.device) -> Problem:
    """Make a problem, with exact results from the reference or, for more than `SMALL` maps, from the batched path."""
    module = operator.build(n)
    if operator.name != "correlation":
        randomise(module)
    module = module.to(device).train(training)
    x, clear = clear_maps(operator, module, n)
    g = seeded(n, operator.outputs, SIDE, SIDE, seed=99).to(device) * clear[:, None, None, None]

    def exact(layer: Callable[[Params, Tensor], Tensor]) -> Results:
        return _results(layer, state(module, torch.float64), x.double(), g, clear, training)

    if n > SMALL:
        small = problem(operator, SMALL, training, device)
        double = small.results(as_layer(small.module), torch.float64)
        for ours, true in zip(double, small.exact, strict=True):
            if true:
                assert_runs_equal(ours, true, 1e-11)
        return Problem(operator, n, module, x, g, clear, exact(as_layer(module)))
    results = exact(lambda params, maps: operator.reference(params, maps, training))
    return Problem(operator, n, module, x, g, clear, results)


_kept, _last = lru_cache(maxsize=None)(_problem), lru_cache(maxsize=1)(_problem)


def _results(
    layer: Callable[[Params, Tensor], Tensor], params: Params, x: Tensor, g: Tensor, clear: Tensor, training: bool
) -> Results:
    if not training:
        with torch.no_grad():
            return Results({"output": layer(params, x)[clear]}, {})
    values = run(layer, params, x, g)
    return Results({"output": values.pop("y")[clear]}, values)


def representable(n: int, channels: int, seed: int = 0) -> Tensor:
    """Draw maps that are equal in float32 and bfloat16."""
    return seeded(n, channels, SIDE, SIDE, seed=seed).bfloat16().float()


def clear_maps(operator: Operator, module: nn.Module, n: int) -> tuple[Tensor, Tensor]:
    """Draw maps, and return for each whether rounding in float32 can change neither neighbours nor CCC's maxima."""
    double = copy.deepcopy(module).double()
    for seed in range(100):
        x = representable(n, operator.inputs, seed).to(next(module.parameters()).device)
        if operator.nodes is None:
            return x, torch.ones(n, dtype=torch.bool, device=x.device)
        with torch.no_grad():
            nodes = operator.nodes(double, x.double())
        weights = getattr(double, "ccc", double)
        clear = [
            neighbour_gap(maps[None], NEIGHBOURS, "paper") > CLEAR and winner_gap(weights, maps) > APART
            for maps in nodes
        ]
        if sum(clear) > SHARE * n:
            return x, torch.tensor(clear, device=x.device)
    raise AssertionError("no maps with clear neighbours")


@torch.no_grad()
def winner_gap(layer: nn.Module, maps: Tensor) -> float:
    """Return the smallest margin of `layer` (CCC) on `maps (C, H, W)`: between the two largest of a maximum, or of a
    ReLU to 0.

    It is relative to the root mean square of the values. Beyond the margin, the gradient takes another way.
    """
    nodes = maps.flatten(1)
    others = neighbours(nodes[None], NEIGHBOURS)[0]
    index = torch.cat([torch.arange(len(nodes), device=nodes.device)[:, None], others], dim=1)
    edge = F.linear(nodes, layer.edge.weight)
    own = F.linear(nodes, layer.node.weight - layer.edge.weight, layer.node.bias + layer.edge.bias)
    largest = edge[index].topk(2, dim=1).values  # (V, 2, D)
    before = own + largest[:, 0]
    apart = torch.where(before > 0, torch.minimum(before, largest[:, 0] - largest[:, 1]), -before)
    return float(apart.min() / before.square().mean().sqrt())


def candidate(problem: Problem, backend: str, dtype: torch.dtype) -> Callable[[], Results]:
    """Return the function to time: forward in evaluation, or forward and backward in training; bfloat16 by autocast."""
    operator, module = problem.operator, problem.module
    if operator.name == "correlation":
        module = copy.deepcopy(module).to(dtype)
    if backend == "reference":
        ours = of_loops(lambda params, x: operator.reference(params, x, module.training), module)
    else:
        ours = of_module(module, backend)
    x = problem.x.to(dtype, copy=True).requires_grad_(module.training)
    torch._dynamo.maybe_mark_dynamic(x, 0)  # compile once for any number of maps
    sources = {"x": x, **ours.parameters}

    def forward() -> Results:
        with torch.no_grad(), autocast(x.device, dtype):
            return Results({"output": ours.forward(x)}, {})

    def step() -> Results:
        with autocast(x.device, dtype):
            y = ours.forward(x)
        gradients = torch.autograd.grad(y, list(sources.values()), problem.g.to(y.dtype))
        return Results({"output": y.detach()}, dict(zip(sources, gradients, strict=True)) | ours.buffers)

    return step if module.training else forward
