"""Explain what a model predicts for windows of a face."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mol_fast.data.clips import normalise_frames
from mol_fast.data.video_data import LEAST_EYE_DISTANCE
from mol_fast.explain.attribution import Attribution, attribute, expression_model, import_captum
from mol_fast.explain.result import ELSEWHERE, Channel, Explanation, Map
from mol_fast.explain.units import describe, find_units
from mol_fast.metrics import temper
from mol_fast.nn.config import FEATURE_SIZE
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import GENERAL, find_weights, load_described
from mol_fast.spotting.face_motion import face_motion
from mol_fast.spotting.moved import moved_regions, strength_of
from mol_fast.spotting.regions import REGIONS, Array, layout, region_of_pixels
from mol_fast.utils.device import choose_device
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import resize_matrix, warp
from mol_fast.vision.sizes import CROP, MARGIN, PAIRS, WINDOW, interval
from mol_fast.vision.video import FrameArray, check_length, grey

_LEAST = 0.01  # least motion that is told, in distances of the eyes: about 0.4 pixels
_CHANNELS = 3  # most chosen channels of a block that are told
_CHOOSERS = 5


class Explainer:
    """Explains the predictions of a model.

    Args:
        model: the model, which reads windows of 8 frames.
        classes: names of its classes.
        gradients: also compute integrated gradients on frames, which take most of the time.
        temperature: temperature that calibrates the probabilities; None if the weights tell none.

    Raises:
        UserError: captum is not installed, or the model reads other windows.
    """

    def __init__(
        self, model: MOL, classes: tuple[str, ...], gradients: bool = True, temperature: float | None = None
    ) -> None:
        import_captum()
        if model.config.frames != WINDOW:
            raise UserError(f"the weights read clips of {model.config.frames} frames, explanations need {WINDOW}")
        self.classes, self.gradients, self.temperature = classes, gradients, temperature or 1.0
        self._model, self._lean = model, expression_model(model)

    def windows(self, clips: Tensor, label: str | None = None) -> list[Explanation]:
        """Explain each window by itself.

        Args:
            clips: (B, 1, 8, 128, 128), normalised, on the device of the model.
            label: class to explain. Default: the most probable one of each window.

        Raises:
            ValueError: `label` is none of the classes.
        """
        return self._explain(clips, label, [slice(row, row + 1) for row in range(len(clips))])

    def clip(self, clips: Tensor, label: str | None = None) -> Explanation:
        """Explain the mean over the windows of one clip; see `windows`."""
        return self._explain(clips, label, [slice(None)])[0]

    def _explain(self, clips: Tensor, label: str | None, parts: list[slice]) -> list[Explanation]:
        if label is not None and label not in self.classes:
            raise ValueError(f"label is {label!r}, the classes are {', '.join(self.classes)}")
        training = self._model.training
        with torch.inference_mode():
            output = self._model.eval()(clips)
        self._model.train(training)
        probabilities = output.logits.float().softmax(-1).cpu().numpy()
        flow, landmarks = (
            None if part is None else part.float().cpu().numpy() for part in (output.flow, output.landmarks)
        )
        means = [temper(probabilities[part].mean(0), self.temperature) for part in parts]
        chosen = [int(mean.argmax()) if label is None else self.classes.index(label) for mean in means]
        return self._attributed(clips, means, chosen, parts, flow, landmarks)

    def predicted(
        self,
        clips: Tensor,
        probabilities: npt.NDArray[np.float32],
        flow: npt.NDArray[np.float32] | None,
        landmarks: npt.NDArray[np.float32] | None,
    ) -> list[Explanation]:
        """Explain the most probable class of each window, of which the model has said the rest already.

        Args:
            clips: (B, 1, 8, 128, 128), normalised, on the device of the model.
            probabilities: (B, K), with temperature.
            flow: (B, 2, 7, 128, 128), in pixels of the crop; None if the model has none.
            landmarks: (B, 7, 68, 2), in pixels of the crop; None if the model has none.
        """
        parts = [slice(row, row + 1) for row in range(len(clips))]
        chosen = probabilities.argmax(1).tolist()
        return self._attributed(clips, list(probabilities), chosen, parts, flow, landmarks)

    def _attributed(
        self,
        clips: Tensor,
        means: Sequence[npt.NDArray[np.floating]],
        chosen: list[int],
        parts: list[slice],
        flow: npt.NDArray[np.float32] | None,
        landmarks: npt.NDArray[np.float32] | None,
    ) -> list[Explanation]:
        """Explain a class of each part of a batch, whose probabilities are the means."""
        windows = range(len(clips))
        labels = torch.tensor([number for number, part in zip(chosen, parts, strict=True) for _ in windows[part]])
        found = attribute(self._lean, clips, labels.to(clips.device), self.gradients)
        return [
            _explanation(
                self.classes[number],
                float(mean[number]),
                found,
                part,
                None if flow is None else flow[part].mean(0),
                None if landmarks is None else landmarks[part, 0].mean(0),
            )
            for number, mean, part in zip(chosen, means, parts, strict=True)
        ]


def explain(
    frames: npt.NDArray[np.uint8],
    weights: str | os.PathLike[str] = GENERAL,
    *,
    label: str | None = None,
    device: str = "auto",
) -> Explanation:
    """Explain what weights predict for a clip of aligned frames.

    Args:
        frames: uint8 (n, H, W), grey, or (n, H, W, 3), RGB; n >= 8. Aligned face crops, as those of a prepared set.
        weights: a weights file, the folder of a run, or "owner/name". Default: the weights that come with mol-fast.
        label: class to explain. Default: the one that is predicted.
        device: "cpu", "cuda", ..., or "auto" (a GPU if there is one).

    Raises:
        UserError: captum is not installed, there are fewer than 8 frames, or weights or device cannot be used.
        ValueError: `frames` has a wrong shape or dtype, or `label` is none of the classes.
    """
    source = FrameArray(frames, aligned=True)
    check_length(source)
    model, header = load_described(find_weights(weights))
    place = choose_device(device)
    explainer = Explainer(model.to(place), header.classes, temperature=header.temperature)
    square = slice(MARGIN, MARGIN + CROP)
    pictures = np.stack([warp(grey(frame), resize_matrix(*frame.shape[:2])) for frame in source])[:, square, square]
    step = interval(len(pictures))
    windows = np.stack([pictures[first : first + PAIRS * step + 1 : step] for first in range(step)])
    return explainer.clip(normalise_frames(torch.from_numpy(windows).to(place))[:, None], label)


def displacement(flow: npt.NDArray[np.float32], landmarks: npt.NDArray[np.floating]) -> Array:
    """Return how far regions moved from the first frame to the one where they moved most.

    Args:
        flow: (2, 7, H, W) from each frame to the next, in pixels.
        landmarks: (68, 2) of the first frame, in pixels.

    Returns:
        (regions, 2) in distances of the eyes, without the motion of the head.
    """
    places = layout(landmarks)
    away = np.ascontiguousarray(np.cumsum(flow.astype(np.float32), axis=1).transpose(1, 2, 3, 0))
    return max((face_motion(field, places)[0] for field in away), key=strength_of)


def _explanation(
    label: str,
    probability: float,
    found: Attribution,
    part: slice,
    flow: npt.NDArray[np.float32] | None,
    landmarks: npt.NDArray[np.float32] | None,
) -> Explanation:
    places = {method: _shares(maps[part].float().mean(0).cpu().numpy()) for method, maps in found.places().items()}
    pairs, times = found.pairs(), found.times()
    if landmarks is not None and layout(landmarks).distance < LEAST_EYE_DISTANCE:
        landmarks = None  # of weights that have not learned faces
    cells = None if landmarks is None else region_cells(landmarks)
    regions = moved = units = sentence = None
    if cells is not None:
        regions = {
            method: dict(zip((*REGIONS, ELSEWHERE), np.tensordot(cells, shares, 2).tolist(), strict=True))
            for method, shares in places.items()
        }
    if flow is not None and landmarks is not None:
        motion = displacement(flow, landmarks)
        moves = strength_of(motion) >= _LEAST
        moved = moved_regions(motion) if moves else ()
        units = find_units(motion, landmarks) if moves else ()
        sentence = describe(moved, units)
    return Explanation(
        label,
        probability,
        places,
        pairs[part].mean(0).cpu().numpy(),
        None if times is None else times[part].mean(0).cpu().numpy(),
        regions,
        moved,
        units,
        sentence,
        _channels(found, part, cells),
    )


def region_cells(landmarks: npt.NDArray[np.floating]) -> Array:
    """Return the share (regions + 1, 16, 16) of each cell of the crop that lies in each region, and elsewhere."""
    owner = region_of_pixels(landmarks, CROP)
    masks = owner == np.array([*range(len(REGIONS)), -1])[:, None, None]
    side = CROP // FEATURE_SIZE
    return np.asarray(masks.reshape(len(masks), FEATURE_SIZE, side, FEATURE_SIZE, side).mean((2, 4)))


def _shares(places: Map) -> Map:
    total = float(places.sum())
    return np.asarray(places / total if total > 0 else np.zeros_like(places))


def _channels(found: Attribution, part: slice, cells: Array | None) -> tuple[Channel, ...]:
    channels = []
    for block, item in zip(("first", "second"), found.neighbours, strict=True):
        if item is None or item.choices.shape[1] != item.motion.shape[1]:  # nodes are positions
            continue
        choices, motion = (values[part].mean(0).cpu().numpy() for values in (item.choices, item.motion))
        votes = choices.sum(0)
        for channel in np.argsort(-votes, kind="stable")[:_CHANNELS].tolist():
            choosers = [who for who in np.argsort(-choices[:, channel], kind="stable") if choices[who, channel] > 0]
            where = None if cells is None else REGIONS[int(np.tensordot(cells[:-1], motion[channel], 2).argmax())]
            channels.append(
                Channel(block, channel, float(votes[channel]), tuple(map(int, choosers[:_CHOOSERS])), where)
            )
    return tuple(channels)
