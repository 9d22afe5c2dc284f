"""A 3D residual network of 18 layers on the frames, from scratch.

After Tran, Wang, Torresani, Ray, LeCun and Paluri, "A Closer Look at Spatiotemporal Convolutions for Action
Recognition", CVPR 2018, network R3D-18. Frames are scaled to 112 x 112 pixels, as there. The layers are those of
`torchvision.models.video.r3d_18`, except that the first reads one grey channel. torchvision itself is not used: its
wheels do not load beside PyTorch without CUDA.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast.baselines.baseline import Baseline
from mol_fast.nn import layout

_SIZE = 112
_WIDTHS = (64, 128, 256, 512)


class ResNet3D(Baseline):
    """R3D-18 on the grey frames of a clip, `(B, 1, T, H, W)`."""

    name = "resnet3d"
    reads = ("frames",)

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem = nn.Sequential(
            nn.Conv3d(1, _WIDTHS[0], (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(_WIDTHS[0]), nn.ReLU()
        )
        blocks: list[_Block] = []
        before = _WIDTHS[0]
        for stage, width in enumerate(_WIDTHS):
            blocks += [_Block(before, width, 2 if stage else 1), _Block(width, width, 1)]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(_WIDTHS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        layout.channels_last(self)

    def logits(self, *inputs: Tensor) -> Tensor:
        frames = inputs[0].flatten(1, 2).float()  # (B, T, H, W); a CPU cannot scale bfloat16
        frames = F.interpolate(frames, (_SIZE, _SIZE), mode="bilinear", antialias=True)[:, None]
        # On a CPU, too, this is faster: a step takes 0.85 of the time.
        frames = frames.to(memory_format=torch.channels_last_3d)
        features: Tensor = self.blocks(self.stem(frames))
        return self.classifier(features.mean((2, 3, 4)))


class _Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`. A clip that is shorter than the kernel is padded before.

    Otherwise the gradient of the kernel is wrong in bfloat16 on a CPU: oneDNN adds memory that nobody has written
    (PyTorch 2.13).
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[2] >= self.kernel_size[0]:
            return super().forward(input)
        depth, *rest = (int(side) for side in self.padding)
        padded = F.pad(input, (0, 0, 0, 0, depth, depth))
        return F.conv3d(padded, self.weight, self.bias, self.stride, (0, *rest))


class _Block(nn.Module):
    """Two convolutions of 3 x 3 x 3 beside a shortcut, which is a convolution of 1 x 1 x 1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs))
        self.second = nn.Sequential(_Conv3d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))
