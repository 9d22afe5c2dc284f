"""What the tests of the layers share: runs of a layer or of the reference, baselines, and error budgets.

A run is a dict: "y" the output, "x" the gradient of the input, the gradient of every parameter and the value
of every buffer by name.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast import reference as ref
from mol_fast.functional import FCCBranch

Params = dict[str, Tensor]
Layer = Callable[[Params, Tensor], Tensor]
NOTHING: Mapping[str, float] = MappingProxyType({})


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, the same whatever the dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def randomise(module: nn.Module, seed: int = 1) -> None:
    """Give every parameter and running statistic a value of order 1 that no symmetry hides."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("norm.weight"):
                value.uniform_(0.5, 1.5, generator=generator).mul_(torch.sign(seeded(*value.shape)))
            elif value.is_floating_point():
                value.normal_(0, value.shape[-1] ** -0.5 if value.dim() > 1 else 0.5, generator=generator)


def state(module: nn.Module, dtype: torch.dtype | None = None) -> Params:
    """Copies of the parameters (leaves) and buffers of `module`, floating ones in `dtype` when given."""
    params: Params = {}
    for name, value in module.state_dict().items():
        copy = value.detach().clone()
        params[name] = copy.to(dtype) if dtype is not None and value.is_floating_point() else copy
    for name, _ in module.named_parameters():
        params[name].requires_grad_()
    return params


def run(layer: Layer, params: Params, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Forward of `x` and backward of `g`; `params` may be updated in place, as layers do in training."""
    x = x.detach().clone().requires_grad_()
    y = layer(params, x)
    y.backward(g.to(y.dtype))
    results = {"y": y.detach(), "x": x.grad}
    for name, value in params.items():
        results[name] = value.grad if value.requires_grad else value
    assert all(value is not None for value in results.values()), "a parameter has no gradient"
    return results  # type: ignore[return-value]


def as_layer(module: nn.Module, **options: int) -> Layer:
    """`module` with its parameters and buffers replaced."""
    return lambda params, x: torch.func.functional_call(module, params, (x,), options)


def fcc_branch(branch: nn.Module) -> FCCBranch:
    """The tensors of a branch of FCC, as the operator takes them."""
    return FCCBranch(*branch(), branch.norm.weight, branch.norm.bias)


def assert_within_budget(
    actual: dict[str, Tensor],
    plain: dict[str, Tensor],
    exact: dict[str, Tensor],
    dtype: torch.dtype,
    summands: Mapping[str, float] = NOTHING,
) -> None:
    """Error at most twice that of the plain PyTorch run in the same dtype, plus one rounding.

    Of the output, and of all gradients and statistics together (root mean square): the error of a single small one,
    a handful of sums, is a matter of luck in either implementation.
    """
    ours, theirs = errors(actual, exact, summands), errors(plain, exact, summands)
    rounding = torch.finfo(dtype).eps
    assert ours["y"] <= 2 * theirs["y"] + rounding, f"output: {ours['y']:.2e}, plain {theirs['y']:.2e}"
    assert mean_square(ours) <= 2 * mean_square(theirs) + rounding, f"{ours}, plain {theirs}"


def assert_runs_equal(actual: dict[str, Tensor], exact: dict[str, Tensor], tolerance: float) -> None:
    for name, value in errors(actual, exact).items():
        assert value <= tolerance, f"{name}: {value:.2e}"


def errors(
    actual: dict[str, Tensor], exact: dict[str, Tensor], summands: Mapping[str, float] = NOTHING
) -> dict[str, float]:
    """Relative error of every result, in the norm.

    A result that is a sum has the rounding errors of its terms, also where they cancel: where `summands` gives the size
    of the terms, the root of the sum of their squares, the error is relative to that if it is the larger.

    What vanishes in exact arithmetic (the gradient of a bias before a batch normalisation) has the rounding errors
    of the terms that cancel: its error is relative to the largest gradient.
    """
    assert actual.keys() == exact.keys()
    sizes = {name: float(value.double().norm()) for name, value in exact.items()}
    largest = max(size for name, size in sizes.items() if name != "y")
    relative = {}
    for name, value in exact.items():
        assert actual[name].shape == value.shape, name
        if not value.is_floating_point():
            assert torch.equal(actual[name], value), name
            continue
        scale = largest if sizes[name] < 1e-9 * largest else max(sizes[name], summands.get(name, 0.0))
        relative[name] = float((actual[name].double() - value.double()).norm()) / scale
    return relative


def mean_square(values: dict[str, float]) -> float:
    return (sum(value**2 for value in values.values()) / len(values)) ** 0.5


def plain_fcc(params: Params, x: Tensor, training: bool) -> Tensor:
    """FCC as one would write it with PyTorch's own layers: batch_norm, and conv2d with circular padding."""
    half = x.shape[1] // 2
    vh = _plain_branch(ref.sub(params, "vh"), x[:, :half], training)
    hv = _plain_branch(ref.sub(params, "hv"), x[:, half:].transpose(2, 3), training).transpose(2, 3)
    return x + torch.cat([vh, hv], dim=1)


def _plain_branch(params: Params, x: Tensor, training: bool) -> Tensor:
    u = x + params["pos1"][:, :, None]
    running = params["norm.running_mean"], params["norm.running_var"]
    if training:
        params["norm.num_batches_tracked"].add_(1)
    u = F.batch_norm(u, *running, params["norm.weight"], params["norm.bias"], training)
    y = _circular(u.transpose(2, 3), params["kernel1"]).transpose(2, 3)
    y = y + params["bias1"][:, None, None] + params["pos2"][:, None, :]
    return _circular(y, params["kernel2"]) + params["bias2"][:, None, None]


def _circular(u: Tensor, kernel: Tensor) -> Tensor:
    wide = torch.cat([u, u[..., :-1]], dim=3)
    return F.conv2d(wide, kernel[:, None, None, :], groups=kernel.shape[0])


def plain_ccc(params: Params, x: Tensor, k: int, variant: str) -> Tensor:
    """CCC with every edge feature materialised; neighbours in float32, as all implementations select them."""
    f = x.flatten(2)
    nodes = (f if variant == "paper" else f.transpose(1, 2)).detach().to(torch.promote_types(x.dtype, torch.float32))
    index = torch.stack([ref.neighbours(sample, k) for sample in nodes])
    node = F.linear(f, params["node.weight"], params["node.bias"])
    if variant == "paper":
        gathered = torch.stack([sample[nearest] for sample, nearest in zip(f, index, strict=True)])  # (N, C, k, D)
        edge = F.linear(gathered - f[:, :, None], params["edge.weight"], params["edge.bias"])
        features = F.relu(node[:, :, None] + edge).amax(dim=2)
        return x + F.conv2d(features.view_as(x), params["mix.weight"], params["mix.bias"])
    gathered = torch.stack([sample[:, nearest.T] for sample, nearest in zip(f, index, strict=True)])  # (N, C, k, D)
    edge = F.linear(gathered - f[:, :, None] - f[:, :, None], params["edge.weight"], params["edge.bias"])
    return x + F.relu(node[:, :, None] + edge).amax(dim=2).view_as(x)


def neighbour_gap(x: Tensor, k: int, variant: str) -> float:
    """Smallest difference of similarity, over all nodes of `x (N, C, H, W)`, that decides the result of CCC.

    "paper" needs the k-th neighbour apart from the next; "official" also those before it in order.
    """
    nodes = x.detach().double().flatten(2)
    nodes = nodes if variant == "paper" else nodes.transpose(1, 2)
    unit = F.normalize(nodes, dim=2)
    similarity = (unit @ unit.transpose(1, 2)).topk(min(k + 1, nodes.shape[1]), dim=2).values
    gaps = -similarity.diff(dim=2)[..., k - 1 if variant == "paper" else 0 :]
    return float(gaps.min()) if gaps.numel() else float("inf")
