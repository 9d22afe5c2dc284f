"""The operators under check: their inputs, the fast call, and the same call in the loops of the reference.

Shapes: N maps, C channels of H x W, D = H W, G statistics groups (map n belongs to group n mod G).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mol_fast import functional
from mol_fast.functional import FCCBranch

Tensors = dict[str, Tensor]

BRANCH = ("kernel1", "pos1", "bias1", "kernel2", "pos2", "bias2", "norm.weight", "norm.bias")
SLOPE = 0.1
"""Slope of the LeakyReLU after the correlation of the flow head."""
LEAST_GAP = 1e-5
"""Smallest gap of similarity between the last neighbour and the next node. It exceeds rounding in float32, so all
dtypes have the same neighbours."""


@dataclass(frozen=True)
class Depth:
    """Depth of a computation, which determines its rounding errors.

    Attributes:
        roundings: number of roundings of maps to their dtype, on the longest path to a result.
        terms: number of terms of the sums on that path, which are accumulated in float32 (float64 for float64).
    """

    roundings: int
    terms: int


@dataclass(frozen=True)
class Operator(ABC):
    """One operator at one shape. Inputs and results have names; `y` is the output with a gradient."""

    shape: tuple[int, int, int, int]
    groups: int = 1

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    def maps(self) -> tuple[str, ...]:
        """Inputs in the dtype of the call. All others are parameters, in float32 or better."""
        return ("x",)

    @property
    def constants(self) -> tuple[str, ...]:
        """Inputs without gradient."""
        return ()

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.shape

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Tensors:
        """Draw inputs in float64 whose results are of order 1."""

    @abstractmethod
    def fast(self, inputs: Tensors, backend: str) -> Tensors:
        """Return the outputs of `mol_fast.functional`."""

    @abstractmethod
    def exact(self, inputs: Tensors) -> Tensors:
        """Return the same outputs from the loops of `mol_fast.reference`."""

    @property
    @abstractmethod
    def forward(self) -> Depth: ...

    @property
    @abstractmethod
    def backward(self) -> Depth: ...

    @property
    def decision(self) -> Depth:
        """Depth of the values that `decisions` compares."""
        return Depth(0, 0)

    def decisions(self, inputs: Tensors, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margin of every maximum and sign, relative to the typical value, and the gradient there."""
        return torch.zeros(0), torch.zeros(0)

    def clear(self, inputs: Tensors) -> bool:
        """Return True if all dtypes have the same neighbours."""
        return True


def normal(generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class FCCTraining(Operator):
    """FCC with statistics of the batch, per group."""

    @property
    def name(self) -> str:
        return "fcc training"

    def draw(self, generator: torch.Generator) -> Tensors:
        n, c, h, w = self.shape
        inputs = {"x": normal(generator, n, c, h, w)}
        for branch, first, second in (("vh", h, w), ("hv", w, h)):
            for name, length in zip(BRANCH, (first, first, 0, second, second, 0, 0, 0), strict=True):
                shape = (c // 2, length) if length else (c // 2,)
                scale = length**-0.5 if name.startswith("kernel") else 0.5
                inputs[f"{branch}.{name}"] = normal(generator, *shape, scale=scale)
            inputs[f"{branch}.norm.weight"] += 1.0
        return inputs

    def fast(self, inputs: Tensors, backend: str) -> Tensors:
        vh, hv = (FCCBranch(*(inputs[f"{half}.{name}"] for name in BRANCH)) for half in ("vh", "hv"))
        given, spread = inputs.get("mean"), inputs.get("var")
        y, mean, var = functional.fcc(inputs["x"], vh, hv, mean=given, var=spread, groups=self.groups, backend=backend)
        return {"y": y, "mean": mean, "var": var}

    def exact(self, inputs: Tensors) -> Tensors:
        from mol_fast.reference import fcc, norm

        frames, half = inputs["x"].unflatten(0, (-1, self.groups)), self.shape[1] // 2
        count = frames[:, 0].numel() // self.shape[1]
        outputs: list[Tensor] = []
        mean: list[Tensor] = []
        var: list[Tensor] = []
        for frame in frames.unbind(1):
            zeros = {
                f"{branch}.norm.{name}": frame.new_zeros(half)
                for branch in ("vh", "hv")
                for name in ("running_mean", "running_var", "num_batches_tracked")
            }
            outputs.append(fcc({**inputs, **zeros}, frame, training=True))
            for found, name in ((mean, "running_mean"), (var, "running_var")):
                running = torch.cat([zeros[f"{branch}.norm.{name}"] for branch in ("vh", "hv")])
                found.append(running / norm.MOMENTUM)
        biased = torch.stack(var) * (count - 1) / count
        return {"y": torch.stack(outputs, dim=1).flatten(0, 1), "mean": torch.stack(mean), "var": biased}

    @property
    def forward(self) -> Depth:
        """Roundings: both circulants, both products, rows and columns, and two sums. Terms: statistics, products."""
        n, _, h, w = self.shape
        return Depth(7, n * h * w // self.groups + h + w)

    @property
    def backward(self) -> Depth:
        """Roundings: those of the forward, both products' gradients, the sum. Terms: parameters sum over all maps."""
        n, _, h, w = self.shape
        return Depth(10, 2 * n * h * w + h + w)


@dataclass(frozen=True)
class FCCEvaluation(FCCTraining):
    """FCC with given statistics, per group."""

    @property
    def name(self) -> str:
        return "fcc evaluation"

    @property
    def constants(self) -> tuple[str, ...]:
        return ("mean", "var")

    def draw(self, generator: torch.Generator) -> Tensors:
        statistics = normal(generator, 2, self.groups, self.shape[1], scale=0.3)
        return {**super().draw(generator), "mean": statistics[0], "var": statistics[1].exp()}

    def exact(self, inputs: Tensors) -> Tensors:
        from mol_fast.reference import fcc

        frames, outputs = inputs["x"].unflatten(0, (-1, self.groups)), []
        for frame, mean, var in zip(frames.unbind(1), inputs["mean"], inputs["var"], strict=True):
            params = dict(inputs)
            for branch, channels in (("vh", slice(None, len(mean) // 2)), ("hv", slice(len(mean) // 2, None))):
                params[f"{branch}.norm.running_mean"], params[f"{branch}.norm.running_var"] = (
                    mean[channels],
                    var[channels],
                )
            outputs.append(fcc(params, frame, training=False))
        return {"y": torch.stack(outputs, dim=1).flatten(0, 1), "mean": inputs["mean"], "var": inputs["var"]}

    @property
    def forward(self) -> Depth:
        return Depth(7, self.shape[2] + self.shape[3])


@dataclass(frozen=True)
class CCC(Operator):
    """CCC of the paper."""

    neighbors: int = 4

    @property
    def name(self) -> str:
        return "ccc"

    def draw(self, generator: torch.Generator) -> Tensors:
        n, c, h, w = self.shape
        d = h * w
        shapes = {"node.weight": (d, d), "node.bias": (d,), "edge.weight": (d, d), "edge.bias": (d,)}
        shapes |= {"mix.weight": (c, c, 1, 1), "mix.bias": (c,)}
        inputs = {"x": normal(generator, n, c, h, w)}
        for name, shape in shapes.items():
            scale = shape[1] ** -0.5 if len(shape) > 1 else 0.5
            inputs[name] = normal(generator, *shape, scale=scale)
        return inputs

    def fast(self, inputs: Tensors, backend: str) -> Tensors:
        y = functional.ccc(
            inputs["x"],
            inputs["node.weight"],
            inputs["node.bias"],
            inputs["edge.weight"],
            inputs["edge.bias"],
            inputs["mix.weight"][:, :, 0, 0],
            inputs["mix.bias"],
            k=self.neighbors,
            backend=backend,
        )
        return {"y": y}

    def exact(self, inputs: Tensors) -> Tensors:
        from mol_fast.reference import ccc_paper

        return {"y": ccc_paper(inputs, inputs["x"], self.neighbors)}

    @property
    def forward(self) -> Depth:
        """Roundings: weights, P and Q, their sum, mix, its product, two sums. Terms: both products."""
        _, c, h, w = self.shape
        return Depth(7, h * w + c)

    @property
    def backward(self) -> Depth:
        """Roundings: weights, edges, their gradient, k additions to a neighbour's, two products, the sum."""
        n, c, h, w = self.shape
        return Depth(7 + self.neighbors, n * max(c, h * w) + 2 * h * w + c)

    @property
    def decision(self) -> Depth:
        """Roundings: weights, P and Q. Terms: their product."""
        return Depth(2, self.shape[2] * self.shape[3])

    def decisions(self, inputs: Tensors, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins of each edge: from the largest neighbour to the next, and from the sum to the ReLU's kink."""
        from mol_fast.reference import neighbours

        f = inputs["x"].flatten(2)
        index = torch.stack([neighbours(nodes, self.neighbors) for nodes in f])  # (N, C, k)
        own = F.linear(f, inputs["node.weight"] - inputs["edge.weight"], inputs["node.bias"] + inputs["edge.bias"])
        other = F.linear(f, inputs["edge.weight"])
        candidates = other[torch.arange(len(f))[:, None, None], index]  # (N, C, k, D)
        best, second = candidates.topk(2, dim=2).values.unbind(2)
        margin = torch.where(own + best > 0, torch.minimum(own + best, best - second), -own - best)
        typical = (own.square().mean() + other.square().mean()).sqrt()
        return margin / typical, inputs["mix.weight"][:, :, 0, 0].T @ gradient.flatten(2)

    def clear(self, inputs: Tensors) -> bool:
        unit = F.normalize(inputs["x"].flatten(2), dim=2)
        similarity = (unit @ unit.mT).topk(self.neighbors + 1, dim=2).values
        return float((similarity[..., -2] - similarity[..., -1]).min()) > LEAST_GAP


@dataclass(frozen=True)
class Correlation(Operator):
    """The correlation of the flow head with its LeakyReLU, 21 x 21 displacements of stride 2."""

    @property
    def name(self) -> str:
        return "correlation"

    @property
    def maps(self) -> tuple[str, ...]:
        return ("x", "b")

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        n, _, h, w = self.shape
        return n, 21 * 21, h, w

    def draw(self, generator: torch.Generator) -> Tensors:
        return {name: normal(generator, *self.shape) for name in self.maps}

    def fast(self, inputs: Tensors, backend: str) -> Tensors:
        return {"y": functional.correlation(inputs["x"], inputs["b"], negative_slope=SLOPE, backend=backend)}

    def exact(self, inputs: Tensors) -> Tensors:
        from mol_fast.reference import correlation

        return {"y": F.leaky_relu(correlation(inputs["x"], inputs["b"]), SLOPE)}

    @property
    def forward(self) -> Depth:
        """Roundings: the factor 1/C, the product, LeakyReLU. Terms: channels."""
        return Depth(3, self.shape[1])

    @property
    def backward(self) -> Depth:
        """Roundings: those of the forward, LeakyReLU's, the product's and the factor's gradient. Terms: positions."""
        return Depth(6, self.shape[2] * self.shape[3])

    @property
    def decision(self) -> Depth:
        """Roundings: the factor 1/C; rounding the product keeps its sign. Terms: channels."""
        return Depth(1, self.shape[1])

    def decisions(self, inputs: Tensors, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins from each product to the LeakyReLU's kink, where the second position is inside the map."""
        from mol_fast.reference import correlation

        y = correlation(inputs["x"], inputs["b"])
        return y[y != 0].abs() * self.shape[1] ** 0.5, gradient[y != 0]


def operators(quick: bool = False) -> list[Operator]:
    """Return every operator, at a small asymmetric shape and, unless `quick`, at C = 128, H = W = 16."""
    found: list[Operator] = [
        FCCTraining((6, 6, 5, 12), groups=2),
        FCCEvaluation((6, 6, 5, 12), groups=2),
        CCC((3, 6, 5, 12), neighbors=2),
        Correlation((2, 6, 5, 12)),
    ]
    if not quick:
        found += [
            FCCTraining((4, 128, 16, 16), groups=2),
            FCCEvaluation((4, 128, 16, 16), groups=2),
            CCC((2, 128, 16, 16)),
            Correlation((2, 128, 16, 16)),
        ]
    return found
