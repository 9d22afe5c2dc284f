"""Histograms of flow in regions of the face, with a linear support vector machine.

The idea is that of MDMO: Liu, Zhang, Yan, Wang, Zhao and Fu, "A main directional mean optical flow feature for
spontaneous micro-expression recognition", IEEE Transactions on Affective Computing 7(4), 2016. There, 36 regions are
averaged over all frames of a video; here, 15 regions are read once, from onset to apex, and the histogram is kept
beside the main direction.
"""

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mol_fast.baselines.apex_flow import apex_flow, sample
from mol_fast.baselines.baseline import Fitted
from mol_fast.data import ClipDataset
from mol_fast.spotting.regions import OF_SKULL, REGIONS, layout, region_means
from mol_fast.utils.errors import UserError

_BINS = 8
_SIDE = 0.3  # of the square around a place, in distances of the eyes
_BATCH = 8
_POINTS = 9  # along a side of it
_NEVER = -1e3  # logit of a class without training clips
FEATURES = len(REGIONS) * (_BINS + 2)


class Histograms(Fitted):
    """Flow histograms per region, standardised, and a linear support vector machine (one against rest).

    scikit-learn fits the machine; without it, a fitted one still predicts.
    """

    name = "histograms"
    reads = ("flow", "landmarks")

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.register_buffer("weight", torch.zeros(num_classes, FEATURES))
        self.register_buffer("bias", torch.zeros(num_classes))

    @classmethod
    def check_packages(cls) -> None:
        if find_spec("sklearn") is None:
            raise UserError(
                "scikit-learn, which --model histograms needs, is not installed: pip install 'mol-fast[baselines]'"
            )

    def fit(self, clips: ClipDataset, seed: int) -> None:
        from sklearn.svm import LinearSVC

        batches = DataLoader(clips, _BATCH)
        found = [(region_features(batch["flow"], batch["landmarks"]), batch["label"]) for batch in batches]
        features, labels = torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found])
        self.mean, self.deviation = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
        known = labels.unique()
        self.bias = torch.full((self.config.num_classes,), _NEVER)
        self.weight = torch.zeros(self.config.num_classes, FEATURES)
        if len(known) == 1:
            self.bias[known] = 0.0
            return
        machine = LinearSVC(random_state=seed, max_iter=100_000)
        machine.fit(((features - self.mean) / self.deviation).double().numpy(), labels.numpy())
        weight, bias = torch.from_numpy(machine.coef_).float(), torch.from_numpy(machine.intercept_).float()
        if len(known) == 2:  # one machine, for the second of the two classes
            weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
        self.weight[known], self.bias[known] = weight, bias

    def logits(self, *inputs: Tensor) -> Tensor:
        flow, landmarks = inputs
        features = (region_features(flow, landmarks) - self.mean) / self.deviation
        return features @ self.weight.T + self.bias


def region_features(flow: Tensor, landmarks: Tensor) -> Tensor:
    """Describe the motion of each region from onset to apex, `(B, FEATURES)`, relative to the distance of the eyes.

    Each region has a histogram of eight directions, in which a point counts with the length of its motion, and the mean
    motion (x, y) in the direction with the most motion. The motion of the skull is taken away.

    Args:
        flow: `(B, 2, T-1, H, W)` in pixels.
        landmarks: `(B, T, 68, 2)` in pixels.
    """
    rows = [
        _features(motion[None], first) for motion, first in zip(apex_flow(flow), landmarks[:, 0].cpu(), strict=True)
    ]
    return torch.from_numpy(np.stack(rows)).float().to(flow.device)


def _features(motion: Tensor, landmarks: Tensor) -> np.ndarray:
    places = layout(landmarks.numpy())
    side = np.linspace(-_SIDE / 2, _SIDE / 2, _POINTS) * places.distance
    square = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    points = torch.from_numpy(places.points[:, None] + square).to(motion)
    vectors = (
        sample(motion, points[None])[0].permute(1, 2, 0).double().cpu().numpy() / places.distance
    )  # (P, points, 2)
    vectors = vectors - vectors[OF_SKULL].mean((0, 1))
    lengths = np.linalg.norm(vectors, axis=-1)
    turns = np.arctan2(vectors[..., 1], vectors[..., 0]) / (2 * np.pi)
    inside = np.round(turns * _BINS).astype(int)[..., None] % _BINS == np.arange(_BINS)  # (P, points, bins)
    histograms = region_means((inside * lengths[..., None]).mean(1))
    counts = region_means(inside.mean(1))
    sums = np.stack([region_means((inside * vectors[..., axis, None]).mean(1)) for axis in (0, 1)], -1)
    main = histograms.argmax(1)
    regions = np.arange(len(REGIONS))
    means = sums[regions, main] / counts[regions, main, None]
    return np.concatenate([histograms, means], 1).ravel()
