"""Errors of the operators against the reference in float64, and their error budgets.

The error of a pass is the root mean square, over its results, of the relative error in the norm. Budgets:

PyTorch. The rounding unit is u = eps / 2. Each of R consecutive roundings adds an independent relative error of at most
u, together u sqrt(R). A sum of T random terms with mean zero rounds its partial sums, which grow like a random walk;
that adds at most u sqrt(T / 2) (N. J. Higham and T. Mary, "Sharper probabilistic backward error analysis for basic
linear algebra kernels with random data", SIAM J. Sci. Comput. 42, 2020). With `Depth` the budget is

    u(dtype) sqrt(roundings) + u(accumulator) sqrt(terms)

Triton. The budget is twice the error of PyTorch in the same dtype on the same inputs, plus one rounding, eps(dtype).

Undecided gradients. A maximum or a sign is undecided if its margin is within rounding. Then any implementation may
decide either way, and the gradient follows the decision. If undecided places receive a share s of the gradient's
energy, the error is at most 2 sqrt(s): the gradient is lost in one place and added in another (2 s), and at least half
of the gradient passes on. Both backward budgets grow by this. For float32, inputs are drawn so that s is 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mol_fast.checks.operators import Depth, Operator, Tensors

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Dtypes of the PyTorch operators."""
TRITON_DTYPES = DTYPES[1:]


@dataclass(frozen=True)
class Measure:
    """An error and its budget."""

    error: float
    budget: float

    @property
    def ok(self) -> bool:
        """True if the error is within its budget; False also for NaN."""
        return self.error <= self.budget


@dataclass(frozen=True)
class Accuracy:
    """Result for one operator in one dtype and backend. `problem` says what is wrong, or why there is no measure."""

    operator: Operator
    dtype: torch.dtype
    backend: str
    forward: Measure | None = None
    backward: Measure | None = None
    problem: str | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None

    def __str__(self) -> str:
        maps = "x".join(map(str, self.operator.shape))
        return f"{self.operator.name} {maps} {dtype_name(self.dtype)} {self.backend}"


@dataclass(frozen=True)
class Question:
    """Inputs, incoming gradient and exact results, in float64 on the CPU."""

    inputs: Tensors
    gradient: Tensor
    outputs: Tensors
    gradients: Tensors


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def in_a_line(raised: Exception) -> str:
    """Return type and first line of an exception."""
    return f"{type(raised).__name__}: {(str(raised).strip().splitlines() or ['no message'])[0]}"


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def rounding_budget(depth: Depth, dtype: torch.dtype) -> float:
    """Return the error budget of roundings, without undecided gradients."""
    unit, accumulated = (torch.finfo(kind).eps / 2 for kind in (dtype, accumulator(dtype)))
    return float(unit * depth.roundings**0.5 + accumulated * depth.terms**0.5)


def undecided(operator: Operator, inputs: Tensors, gradient: Tensor, dtype: torch.dtype) -> float:
    """Return the share of the gradient's energy that undecided places receive."""
    margins, energy = operator.decisions(inputs, gradient)
    if not margins.numel():
        return 0.0
    energy = energy.square()
    return float((energy * (margins < rounding_budget(operator.decision, dtype))).sum() / energy.sum())


def draw(operator: Operator, dtype: torch.dtype) -> tuple[Tensors, Tensor]:
    """Draw inputs and a gradient in float64, with values exact in `dtype` (parameters: exact in float32).

    The inputs have the same neighbours in any dtype.
    """
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        inputs = operator.draw(generator)
        kept = {name: dtype if name in operator.maps else torch.float32 for name in inputs}
        inputs = {name: value.to(kept[name]).double() for name, value in inputs.items()}
        gradient = torch.randn(operator.output_shape, generator=generator).to(dtype).double()
        sure = dtype.itemsize < 4 or not undecided(operator, inputs, gradient, torch.float32)
        if sure and operator.clear(inputs):
            return inputs, gradient
    raise RuntimeError(f"no inputs of {operator.name} are clear in {dtype_name(dtype)}")


def evaluate(
    function: Callable[[Tensors], Tensors], inputs: Tensors, constants: tuple[str, ...], gradient: Tensor
) -> tuple[Tensors, Tensors]:
    """Return the outputs of `function` and the gradients of `inputs`."""
    leaves = {name: value.detach().clone().requires_grad_(name not in constants) for name, value in inputs.items()}
    outputs = function(leaves)
    outputs["y"].backward(gradient.to(outputs["y"]))
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return {name: value.detach() for name, value in outputs.items()}, gradients


def question(operator: Operator, dtype: torch.dtype) -> Question:
    """Draw inputs for `dtype`, and compute exact results with the reference."""
    inputs, gradient = draw(operator, dtype)
    outputs, gradients = evaluate(operator.exact, inputs, operator.constants, gradient)
    return Question(inputs, gradient, outputs, gradients)


def error(actual: Tensors, exact: Tensors) -> float:
    """Return the root mean square of the relative errors of the results.

    Raises:
        RuntimeError: a result is missing or has a wrong shape.
    """
    squares = []
    for name, value in exact.items():
        if name not in actual or actual[name].shape != value.shape:
            raise RuntimeError(f"the result for {name} is missing or has a wrong shape")
        difference = actual[name].double().cpu() - value
        squares.append(float(difference.norm() / value.norm()) ** 2)
    return float((sum(squares) / len(squares)) ** 0.5)


def errors(
    operator: Operator, asked: Question, dtype: torch.dtype, backend: str, device: torch.device
) -> tuple[float, float]:
    """Return the errors of forward and backward of `operator` in `dtype`, with parameters in float32 or better."""
    inputs = {
        name: value.to(device, dtype if name in operator.maps else accumulator(dtype))
        for name, value in asked.inputs.items()
    }
    outputs, gradients = evaluate(
        lambda leaves: operator.fast(leaves, backend), inputs, operator.constants, asked.gradient.to(device)
    )
    return error(outputs, asked.outputs), error(gradients, asked.gradients)


def verdict(operator: Operator, dtype: torch.dtype, backend: str, forward: Measure, backward: Measure) -> Accuracy:
    wrong = [name for name, measure in (("forward", forward), ("backward", backward)) if not measure.ok]
    problem = f"the error of the {' and the '.join(wrong)} is over its budget" if wrong else None
    return Accuracy(operator, dtype, backend, forward, backward, problem)


def accuracy(operator: Operator, dtypes: tuple[torch.dtype, ...], device: torch.device, triton: bool) -> list[Accuracy]:
    """Check `operator` in every dtype of `dtypes` on PyTorch, and with `triton` also on Triton."""
    asked: dict[torch.dtype, Question] = {}
    found = []
    for dtype in dtypes:
        backend = "torch"
        try:
            drawn = dtype if dtype.itemsize == 2 else torch.float32
            if drawn not in asked:
                asked[drawn] = question(operator, drawn)
            flips = 2 * undecided(operator, asked[drawn].inputs, asked[drawn].gradient, dtype) ** 0.5
            plain = errors(operator, asked[drawn], dtype, backend, device)
            forward = Measure(plain[0], rounding_budget(operator.forward, dtype))
            backward = Measure(plain[1], rounding_budget(operator.backward, dtype) + flips)
            found.append(verdict(operator, dtype, backend, forward, backward))
            if triton and dtype in TRITON_DTYPES:
                backend, eps = "triton", torch.finfo(dtype).eps
                fused = errors(operator, asked[drawn], dtype, backend, device)
                forward = Measure(fused[0], 2 * plain[0] + eps)
                backward = Measure(fused[1], 2 * plain[1] + eps + flips)
                found.append(verdict(operator, dtype, backend, forward, backward))
        except Exception as raised:  # the doctor reports whatever an operator raises
            found.append(Accuracy(operator, dtype, backend, problem=in_a_line(raised)))
    return found
