"""A small adapter, which replaces a layer as LoRA does."""

from torch import Tensor, nn


class LowRank(nn.Module):
    """What LoRA puts in the place of a layer: the layer itself, frozen, plus a product of two small layers."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        inputs, outputs = layer.weight.shape[1], layer.weight.shape[0]
        convolution = isinstance(layer, nn.Conv2d)
        self.down = nn.Conv2d(inputs, 2, 1, bias=False) if convolution else nn.Linear(inputs, 2, bias=False)
        self.up = nn.Conv2d(2, outputs, 1, bias=False) if convolution else nn.Linear(2, outputs, bias=False)
        self.to(layer.weight.dtype)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor:
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.up(self.down(x))

    def merged(self) -> Tensor:
        return self.weight + (self.up.weight.flatten(1) @ self.down.weight.flatten(1)).view_as(self.weight)
