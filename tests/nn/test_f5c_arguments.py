"""Wrong arguments of the layers and their operators are named."""

from collections.abc import Callable

import pytest
import torch
from harness.compare import fcc_branch, seeded
from torch import nn

from mol_fast import CCC, F5C, FCC, functional


def fcc_arguments() -> dict[str, object]:
    module = FCC(4, (2, 3))
    return {"x": seeded(4, 4, 2, 3), "vh": fcc_branch(module.vh), "hv": fcc_branch(module.hv)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": seeded(4, 4, 2)}, r"x must have 4 dimensions"),
        ({"x": torch.zeros(4, 4, 2, 3, dtype=torch.int64)}, r"x must be floating point, got torch\.int64"),
        ({"x": seeded(4, 0, 2, 3)}, r"x must have at least one channel"),
        ({"x": seeded(4, 5, 2, 3)}, r"x must have an even number of channels, got 5"),
        ({"x": seeded(4, 4, 3, 3)}, r"vh\.kernel1 must have shape \(2, 3\)"),
        ({"x": seeded(4, 6, 2, 3)}, r"vh\.kernel1 must have shape \(3, 2\)"),
        ({"x": torch.empty(4, 4, 2, 3, device="meta")}, r"vh\.kernel1 is on cpu but x is on meta"),
        ({"groups": 3}, r"groups must divide the number of maps"),
        ({"groups": 0}, r"groups must divide the number of maps"),
        ({"mean": torch.zeros(4)}, r"mean and var must be given together"),
        ({"mean": torch.zeros(3), "var": torch.ones(4)}, r"mean must be \(4,\)"),
        ({"mean": torch.zeros(4), "var": torch.ones(3, 4)}, r"var must be \(4,\)"),
        ({"mean": torch.zeros(4), "var": torch.ones(4, device="meta")}, r"var is on meta"),
        ({"backend": "cuda"}, r"backend must be one of auto, torch, triton, got 'cuda'"),
    ],
)
def test_fcc_names_the_wrong_argument(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.fcc(**{**fcc_arguments(), **change})  # type: ignore[arg-type]


def test_fcc_statistics_of_any_form() -> None:
    """One mean for all groups and a variance per group, not contiguous: what the repeated statistics give."""
    arguments = fcc_arguments()
    mean, var = seeded(4), seeded(4, 2, seed=1).square().T + 0.5
    y, used_mean, used_var = functional.fcc(**arguments, mean=mean, var=var, groups=2)  # type: ignore[arg-type]
    both = functional.fcc(**arguments, mean=mean.expand(2, 4).clone(), var=var.clone(), groups=2)  # type: ignore[arg-type]
    assert torch.equal(y, both[0])
    assert torch.equal(used_mean, both[1])
    assert torch.equal(used_var, both[2])


def ccc_arguments() -> dict[str, object]:
    module = CCC(4, (2, 3), 2)
    names = ("node_weight", "node_bias", "edge_weight", "edge_bias", "mix_weight", "mix_bias")
    values = (p.detach().squeeze() for p in module.parameters())
    return {"x": seeded(2, 4, 2, 3), **dict(zip(names, values, strict=True)), "k": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 4, 2, 3, dtype=torch.uint8)}, r"x must be floating point"),
        ({"k": 5}, r"k must be from 1 to the number of nodes, 4, got 5"),
        ({"k": 0}, r"k must be from 1"),
        ({"k": 7, "variant": "official"}, r"number of nodes, 6, got 7"),
        ({"variant": "Paper"}, r"variant must be one of paper, official, got 'Paper'"),
        ({"backend": "fast"}, r"backend must be one of"),
        ({"node_weight": torch.zeros(4, 4)}, r"node_weight must have shape \(6, 6\)"),
        ({"edge_bias": torch.zeros(4)}, r"edge_bias must have shape \(6,\)"),
        ({"mix_weight": torch.zeros(4, 4, 1, 1)}, r"mix_weight must have shape \(4, 4\)"),
        ({"mix_bias": None}, r"mix_weight and mix_bias must be given"),
        ({"edge_weight": torch.zeros(6, 6, device="meta")}, r"edge_weight is on meta but x is on cpu"),
    ],
)
def test_ccc_names_the_wrong_argument(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.ccc(**{**ccc_arguments(), **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: F5C(5, 4), r"channels must be even and at least 2, got 5"),
        (lambda: F5C(0, 4), r"channels must be even and at least 2, got 0"),
        (lambda: F5C(4, 0), r"size must be a positive number"),
        (lambda: F5C(4, (3, -1)), r"size must be a positive number"),
        (
            lambda: F5C(4, (3, 4, 5)),  # type: ignore[arg-type]
            r"size must be",
        ),
        (lambda: F5C(4, 4, neighbors=5), r"neighbors must be from 1 to the number of nodes, 4, got 5"),
        (lambda: F5C(4, 4, neighbors=0), r"neighbors must be from 1"),
        (lambda: F5C(4, 2, neighbors=5, variant="official"), r"number of nodes, 4, got 5"),
        (lambda: F5C(4, 4, variant="published"), r"variant must be one of"),
        (lambda: F5C(4, 4, backend="cuda"), r"backend must be one of"),
    ],
)
def test_constructors_name_the_wrong_argument(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("layer", [FCC(4, (2, 3)), CCC(4, (2, 3), 2), F5C(4, (2, 3), 2)])
@pytest.mark.parametrize("shape", [(4, 2, 3), (1, 4, 3, 2), (1, 6, 2, 3)])
def test_layers_name_the_shape_they_need(layer: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \(N, 4, 2, 3\), got"):
        layer(torch.zeros(shape))


def test_triton_is_not_replaced_silently() -> None:
    """A backend asked for by name that cannot run raises."""
    module = F5C(4, (2, 3), 2, backend="triton")
    with pytest.raises(RuntimeError, match=r'backend="triton"'):
        module.fcc(seeded(1, 4, 2, 3))
    with pytest.raises(RuntimeError, match=r'backend="triton"'):
        module.ccc(seeded(1, 4, 2, 3))
    with pytest.raises(RuntimeError, match=r'"official"'):
        CCC(4, (2, 3), 2, variant="official", backend="triton")(seeded(1, 4, 2, 3))
