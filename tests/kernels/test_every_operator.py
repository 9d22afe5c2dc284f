"""What holds for every operator on Triton: nothing but its arguments changes its results, and PyTorch can use it."""

from collections.abc import Callable

import pytest
import torch
from harness.kernel_checks import (
    LAYOUTS,
    Make,
    Problem,
    assert_same,
    count_launches,
    decide,
    each,
    each_run,
    first_runs,
    on_gpu,
    operator_of,
    poison,
    replayed,
    run_strided,
)
from torch import Tensor

pytest.importorskip("triton")

from harness import kernel_ccc, kernel_correlation, kernel_fcc
from mol_fast.kernels import common

on = pytest.mark.parametrize


SMALL = (
    kernel_fcc.problem(4, 2, 3, 5, 2),
    kernel_ccc.problem(2, 4, 3, 5, 2),
    kernel_correlation.problem(1, 2, 3, 4, 2, 1, 0.1),
)


@each(
    kernel_fcc.problem(2, 4, 5, 6),
    kernel_fcc.problem(2, 4, 5, 6, training=False),
    kernel_ccc.problem(2, 4, 5, 12, 2),
    kernel_ccc.problem(2, 4, 1, 16, 2),
    kernel_ccc.problem(2, 4, 16, 1, 2),
    kernel_correlation.problem(2, 3, 5, 6, 4, 2, 0.1),
)
@first_runs
def test_strides_do_not_matter(device: str, dtype: torch.dtype, make: Make) -> None:
    """Channels last, transposed, sliced and expanded maps and gradients give bit for bit what contiguous ones give."""
    problem = make(dtype, device)
    x, d = (value[:1].expand_as(value) for value in (problem.x, problem.d))

    def strided(layout: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        params = problem.params()
        for name in problem.maps:
            params[name] = layout(params[name][:1].expand_as(params[name])).detach().requires_grad_()
        return run_strided(problem.layer, params, layout(x), layout(d))

    expected = strided(torch.Tensor.contiguous)
    assert expected["y"].is_contiguous()
    for layout in LAYOUTS:
        assert_same(strided(layout), expected)


@each(
    *(
        kernel_fcc.problem(*case, training)
        for case in ((6, 2, 5, 12, 3), (2, 2, 33, 40, 1))
        for training in (True, False)
    ),
    kernel_correlation.problem(1, 6, 5, 12, 20, 2, 1.0),
    kernel_correlation.problem(1, 2, 8, 7, 6, 3, 0.1),
)
@first_runs
def test_every_output_is_written(device: str, dtype: torch.dtype, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of CCC, which launches in two ways, is in test_ccc.py."""
    problem = make(dtype, device)
    expected = problem.run()
    poison(monkeypatch)
    assert_same(problem.run(), expected)


@each(
    kernel_fcc.problem(3, 2, 5, 12),
    kernel_fcc.problem(3, 2, 5, 12, training=False),
    kernel_ccc.problem(2, 6, 5, 12, 2),
    kernel_correlation.problem(2, 3, 7, 4, 5, 2, 0.1),
)
@first_runs
def test_int64_offsets_change_nothing(
    device: str, dtype: torch.dtype, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make(dtype, device)
    expected = problem.run()
    decide(monkeypatch, common, "INT32_LIMIT", 1)
    assert_same(problem.run(), expected)


@each(
    kernel_fcc.problem(0, 4, 3, 5, 3),
    kernel_ccc.problem(0, 6, 5, 12, 2),
    kernel_correlation.problem(0, 4, 3, 5, 20, 2, 1.0),
)
@each_run
def test_no_maps(device: str, dtype: torch.dtype, make: Make) -> None:
    problem = make(dtype, device)
    results = problem.run()
    assert results["y"].shape == problem.d.shape
    assert results["x"].shape == problem.x.shape
    for name in problem.params():
        assert torch.equal(results[name], torch.zeros_like(results[name])), name


@each(
    kernel_fcc.problem(4, 2, 3, 2, 2),
    kernel_fcc.problem(4, 2, 3, 2, 2, training=False),
    kernel_correlation.problem(1, 2, 3, 4, 4, 2, 0.1),
)
@pytest.mark.interpreter
def test_gradcheck(make: Make) -> None:
    """That of CCC, which needs maps with clear neighbours, is in test_ccc.py."""
    problem = make(torch.float64, "cpu")
    params = problem.params()

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return problem.layer(dict(zip(params, values, strict=True)), x)

    assert torch.autograd.gradcheck(function, (problem.x.requires_grad_(), *params.values()), fast_mode=True)


@each(*SMALL)
@first_runs
def test_compiles_without_a_graph_break(device: str, dtype: torch.dtype, make: Make) -> None:
    problem = make(dtype, device)
    compiled = torch.compile(problem.layer, fullgraph=True, backend="aot_eager")
    assert_same(Problem(compiled, problem.params, problem.x, problem.d).run(), problem.run())


@each(*SMALL)
@first_runs
def test_double_backward_raises(device: str, dtype: torch.dtype, make: Make) -> None:
    problem = make(dtype, device)
    x = problem.x.requires_grad_()
    (dx,) = torch.autograd.grad(problem.layer(problem.params(), x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=f"{operator_of(make)}_backward"):
        dx.sum().backward()


@on(
    ("make", "forward", "backward"),
    [
        (kernel_fcc.problem(2, 2, 3, 5), 2, 3),
        (kernel_fcc.problem(2, 2, 3, 5, training=False), 1, 3),
        (SMALL[2], 1, 1),
    ],
    ids=["fcc0", "fcc1", "correlation0"],
)
@first_runs
def test_launches(
    device: str, dtype: torch.dtype, make: Make, forward: int, backward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make(dtype, device)
    launched = count_launches(monkeypatch)
    problem.run()
    assert launched == ["forward"] * forward + ["backward"] * backward


@each(kernel_fcc.problem(448, 128, 16, 16, 7), kernel_correlation.problem(224, 256, 16, 16, 20, 2, 0.1))
@on_gpu
def test_runs_are_identical(device: str, dtype: torch.dtype, make: Make) -> None:
    """Many programs at once, twice: a race would show."""
    problem = make(dtype, device)
    assert_same(problem.run(), problem.run())


@each(
    kernel_fcc.problem(14, 4, 16, 16, 7),
    kernel_ccc.problem(7, 128, 16, 16, 4),
    kernel_correlation.problem(7, 32, 16, 16, 20, 2, 0.1),
)
@on_gpu
def test_cuda_graph(device: str, dtype: torch.dtype, make: Make) -> None:
    problem = make(dtype, device)
    params, fresh = problem.params(), problem.x.flip(0)
    with torch.no_grad():
        actual = replayed(lambda x: problem.layer(params, x), problem.x, fresh)
        assert torch.equal(actual, problem.layer(params, fresh))
