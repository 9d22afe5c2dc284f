"""The stem before the F5C blocks, and the heads for landmarks, expressions and action units after them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mol_fast.functional import no_autocast
from mol_fast.nn.config import FEATURE_CHANNELS, FEATURE_SIZE
from mol_fast.nn.sync import BatchDropout

LANDMARKS = 68


class Stem(nn.Module):
    """Four convolutions, applied to every frame, `(N, 1, 128, 128) -> (N, 128, 16, 16)`.

    Args:
        activation: apply a ReLU after the first three convolutions. The official code does not, so its stem is affine.
    """

    def __init__(self, activation: bool) -> None:
        super().__init__()
        self.activation = activation
        self.conv1 = nn.Conv2d(1, 8, 4, 2)
        self.conv2 = nn.Conv2d(8, 32, 3, 2)
        self.conv3 = nn.Conv2d(32, 64, 2, 2, 1)
        self.conv4 = nn.Conv2d(64, FEATURE_CHANNELS, 1)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x)) if self.activation else conv(x)
        return self.conv4(x)


class LandmarkHead(nn.Module):
    """Landmark head, `(N, 128, 16, 16) -> (N, 68, 2)`: (x, y) in pixels of the 128 x 128 crop."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(FEATURE_CHANNELS, 32, 3)
        self.fc1 = nn.Linear(32 * (FEATURE_SIZE - 2) ** 2, 512)
        self.fc2 = nn.Linear(512, 2 * LANDMARKS)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.conv(features))
        x = F.relu(self.fc1(x.flatten(1)))
        # bfloat16 would round positions to half a pixel. A quantised layer has a method `weight`, and takes float32.
        exact = self.fc2.weight.dtype if isinstance(self.fc2.weight, Tensor) else torch.float32
        with no_autocast(x):
            return self.fc2(x.to(exact)).unflatten(1, (LANDMARKS, 2))

    def start_at(self, landmarks: Tensor) -> None:
        """Initialise the bias, so that an untrained head predicts about `landmarks (68, 2)`, in pixels of the crop.

        Training then learns deviations from a mean face from the first step on.
        """
        with torch.no_grad():
            self.fc2.bias.copy_(landmarks.flatten())


class ExpressionHead(nn.Module):
    """Expression head: logits `(B, K)` of classes from the maps of both frames of all pairs, `(2, B, P, 16, 16, 128)`.

    First and second frames alternate along the depth of the 3-D convolution. A second one serves action units.
    """

    def __init__(self, num_classes: int, frames: int, dropout: float) -> None:
        super().__init__()
        depth = (2 * (frames - 1) - 4) // 2
        self.conv = nn.Conv3d(FEATURE_CHANNELS, 32, (2, 2, 5), stride=(2, 2, 1))
        self.dropout = BatchDropout(dropout)
        self.fc1 = nn.Linear(32 * (FEATURE_SIZE // 4) ** 2 * depth, 256)
        self.fc2 = nn.Linear(256, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        sequence = features.permute(1, 3, 4, 2, 0, 5).flatten(3, 4).movedim(4, 1)  # (B, C, h, w, 2 P), channels last
        x = self.dropout(F.max_pool3d(self.conv(sequence), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout(x))
