"""Time FCC, CCC, F5C and the correlation on every backend."""

import pytest
import torch
from backends import BACKENDS, DTYPES, skipped, unavailable
from budget import cost
from gate import Results, refuse_wrong
from measure import Labels, Measure, name_of
from operators import OPERATORS, SIDE, Operator, candidate, problem

MAPS = {"FCC": (1, 4, 32, 448), "CCC": (1, 4, 32, 448), "F5C": (1, 4, 32, 448), "correlation": (7, 28, 224)}
"""Numbers of maps; a training batch of 32 clips has 448, for the correlation 224."""
MOST_LOOPS = 32
"""Most maps for which the loops of the reference end in reasonable time."""


def worth_timing(operator: Operator, training: bool, n: int, backend: str, dtype: torch.dtype) -> bool:
    """Return whether to time a case: loops only if fast enough; compiled bfloat16 only for F5C (5 to 15 s each)."""
    if backend == "reference":
        return n <= MOST_LOOPS and dtype == torch.float32
    if backend == "torch.compile":
        return not (training and n == 1) and (operator.name == "F5C" or dtype == torch.float32)
    return True


def seconds(training: bool, n: int, backend: str) -> float:
    """Return the cost of a case in seconds, see budget.py."""
    if backend == "torch.compile":
        return 15.0 if training else 10.0
    if n > MOST_LOOPS:
        return 16.0 if training else 8.0
    if backend == "reference" and n == MOST_LOOPS:
        return 10.0 if training else 3.0
    return 2.0


CASES = [
    pytest.param(
        *(operator, training, n, backend, dtype),
        id=f"{operator.name}-{phase}-{n}-{backend}-{name_of(dtype)}",
        marks=[
            cost(seconds(training, n, backend), operator.name == "F5C" and dtype == torch.float32),
            *skipped(unavailable(backend, dtype)),
        ],
    )
    for operator in OPERATORS
    for training, phase in ((False, "forward"), (True, "forward+backward"))
    for n in MAPS[operator.name]
    for backend in BACKENDS
    for dtype in DTYPES
    if worth_timing(operator, training, n, backend, dtype)
]


@pytest.mark.parametrize(("operator", "training", "n", "backend", "dtype"), CASES)
def test_operator(
    measure: Measure,
    device: torch.device,
    operator: Operator,
    training: bool,
    n: int,
    backend: str,
    dtype: torch.dtype,
) -> None:
    case = problem(operator, n, training, device)
    function = candidate(case, backend, dtype)
    outputs, gradients = function()
    compared = Results({name: value[case.clear] for name, value in outputs.items()}, gradients)
    passed = refuse_wrong(compared, case.exact, case.plain_errors(dtype), dtype)
    labels = Labels(
        operator.name,
        "forward+backward" if training else "forward",
        f"({n}, {operator.inputs}, {SIDE}, {SIDE})",
        backend,
        name_of(dtype),
    )
    flops, least = operator.flops(n, training), operator.bytes(n, training, dtype)
    measure(function, labels, flops, least, **passed)
