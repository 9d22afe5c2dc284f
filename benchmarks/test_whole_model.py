"""Time the whole model: forward, and training step (forward, loss and backward, without the optimiser)."""

import counts
import pytest
import torch
from backends import BACKENDS, DEVICE, DTYPES, of_module, skipped, unavailable
from budget import cost
from gate import refuse_wrong
from measure import Labels, Measure, name_of
from whole_model import MOST_LOOPS, for_inference, loops, plain_errors, problem, timed

CLIPS = (1, 4, 32)


def seconds(training: bool, count: int, backend: str) -> float:
    """Return the cost of a case in seconds, see budget.py."""
    if backend == "torch.compile":
        return 150.0 if training else 80.0
    return (20.0 if training else 6.0) * (1 if count == 1 else 3)  # the first pays for the exact results


def too_much_for_a_cpu(training: bool, count: int, backend: str, dtype: torch.dtype) -> str | None:
    """Return the reason why a case is only for GPUs, or None."""
    if DEVICE.type != "cpu":
        return None
    if count == 32:
        return "32 clips at once are for GPUs"
    if backend == "torch.compile" and (count == 1 or (training and dtype == torch.float32)):
        return "compiling takes minutes on a CPU, 4 clips and steps in bfloat16 are enough"
    return None


CASES = [
    pytest.param(
        *(training, count, backend, dtype),
        id=f"{phase}-{count}-{backend}-{name_of(dtype)}",
        marks=[
            cost(seconds(training, count, backend), backend != "torch.compile" and dtype == torch.float32),
            *skipped(unavailable(backend, dtype) or too_much_for_a_cpu(training, count, backend, dtype)),
        ],
    )
    for training, phase in ((False, "forward"), (True, "step"))
    for count in CLIPS
    for backend in BACKENDS
    for dtype in DTYPES
    if backend != "reference" or (count <= MOST_LOOPS and dtype == torch.float32)
]


@pytest.mark.parametrize(("training", "count", "backend", "dtype"), CASES)
def test_model(
    measure: Measure, device: torch.device, training: bool, count: int, backend: str, dtype: torch.dtype
) -> None:
    plain = plain_errors(count, training, dtype, device)
    by_loops = backend == "reference"
    case = problem(count, training, "frame" if by_loops and training else "clip", device)
    if by_loops:
        ours = loops(case.module)
    else:
        ours = of_module(case.module, backend) if training else for_inference(case.module, backend, dtype)
    function = timed(ours, case.batch, training, dtype)
    passed = refuse_wrong(function(), case.exact, plain, dtype)
    phase = "training step" if training else "forward"
    labels = Labels("model", phase, f"({count}, 1, 8, 128, 128)", backend, name_of(dtype))
    least = sum(value.numel() for value in case.module.parameters()) * 4
    measure(function, labels, counts.model(count, training), least, **passed)
