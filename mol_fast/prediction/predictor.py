"""Run a trained model on windows of frames: probabilities, flow and landmarks."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from numbers import Integral
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mol_fast.data.clips import normalise_frames
from mol_fast.explain import Explainer, Explanation
from mol_fast.metrics import temper
from mol_fast.nn.model import MOLUnitsOutput
from mol_fast.nn.weights import GENERAL, find_weights, load_described
from mol_fast.prediction.aligned import AlignedWindow, Skipped, aligned_windows, check_any
from mol_fast.prediction.result import Flow, Prediction, WindowPrediction, remark, summarise
from mol_fast.prediction.windows import Window, plan_windows
from mol_fast.utils.ahead import ahead
from mol_fast.utils.device import choose_device
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import centre_crop, inverse, transform
from mol_fast.vision.finders import Finders, open_finder
from mol_fast.vision.sizes import CROP, FRAME, MARGIN, WINDOW
from mol_fast.vision.tracking import FaceTracker, Follower, Track
from mol_fast.vision.video import FrameArray, FrameSource, check_length

T = TypeVar("T")


class Estimate(NamedTuple):
    """What the model says about a batch of B clips. A task that it lacks is None."""

    probabilities: npt.NDArray[np.float32]  # (B, K), without temperature
    flow: npt.NDArray[np.float32] | None  # (B, 2, 7, 128, 128), in pixels of the crop
    landmarks: npt.NDArray[np.float32] | None  # (B, 7, 68, 2), of the second frame of each pair, in pixels of the crop
    units: npt.NDArray[np.float32] | None  # (B, 12), probabilities of action units


class Predictor:
    """A trained model on its device.

    Args:
        weights: a weights file, the folder of a run, or "owner/name". Default: the weights that come with mol-fast.
        device: "cpu", "cuda", ..., or "auto" (a GPU if there is one).
        batch_size: number of windows in one batch.
        only: task to predict, "flow" or "landmarks"; the head of the other one does not run. Default: all tasks.
        explain: explain the class of each window, too, see `mol_fast.explain`.

    Attributes:
        classes, tasks: names of the classes, and what the model predicts.
        header: what the weights say about their training.
        temperature: temperature that calibrates the probabilities; None if the weights tell none.
        spans: shortest, median and longest span of a window in training, in seconds; None if unknown.

    Raises:
        UserError: the weights or the device cannot be used, the weights were not trained for the task `only`, or the
            extra `explain` is needed but not installed.
        ValueError: `batch_size` is less than 1.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] = GENERAL,
        device: str = "auto",
        batch_size: int = 4,
        only: Literal["flow", "landmarks"] | None = None,
        explain: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        model, self.header = load_described(find_weights(weights))
        if model.config.frames != WINDOW:
            raise UserError(
                f"{weights} reads clips of {model.config.frames} frames, prediction needs {WINDOW}: give other weights"
            )
        self.classes = self.header.classes
        self.tasks = model.config.tasks
        if only is not None and only not in self.tasks:
            raise UserError(
                f"{weights} was trained for {', '.join(self.tasks)} alone, not for {only}: give weights of a run whose "
                f"--tasks name {only}"
            )
        self.spans = self.header.spans
        self.temperature = self.header.temperature
        self.device = choose_device(device)
        self.batch_size = batch_size
        if only is not None:
            model.unit_head = None
        if only == "flow":
            model.landmark_head = None
        elif only == "landmarks":
            model.flow_head = None
        self._model = model.to(self.device).optimize_for_inference()
        self._explainer = Explainer(self._model, self.classes, gradients=False) if explain else None

    def run(
        self,
        source: FrameSource,
        windows: list[Window],
        tracker: Follower | Track | None,
        skipped: list[Skipped],
        on_frame: Callable[[], object] = lambda: None,
    ) -> Iterator[tuple[WindowPrediction, Flow | None]]:
        """Predict `windows` of `source` in order. Reads the source once, with one batch in memory.

        Args:
            source: the frames.
            windows: windows from `plan_windows`.
            tracker, on_frame: see `aligned_windows`.
            skipped: list that receives the windows that are skipped.

        Yields:
            The prediction of each other window and its flow (2, 7, 128, 128), in pixels of the crop. Tasks that the
            weights were not trained for are None.

        Raises:
            UserError: a frame cannot be read, the model returns non-finite values, or a batch does not fit into memory.
        """
        # While the model predicts a batch, threads find faces for the next one, and decode.
        read = _kept(ahead(aligned_windows(source, windows, tracker, on_frame), self.batch_size), skipped)
        for batch in batched(read, self.batch_size):
            yield from self._predict(batch)

    @torch.inference_mode()
    def estimate(self, clips: Tensor, name: str) -> Estimate:
        """Run the model on one batch.

        Args:
            clips: (B, 8, 128, 128), normalised.
            name: name of the batch for messages.

        Raises:
            UserError: the batch does not fit into memory, or the model returns non-finite values.
        """
        with _fits(len(clips)):
            output = self._model(clips[:, None].to(self.device))
        units = output.units.float().sigmoid() if isinstance(output, MOLUnitsOutput) else None
        heads = (None if part is None else _numpy(part) for part in (output.flow, output.landmarks, units))
        estimate = Estimate(_numpy(output.logits.float().softmax(-1)), *heads)
        if not all(np.isfinite(part).all() for part in estimate if part is not None):
            raise UserError(f"the model returns non-finite values for {name}, train it again")
        return estimate

    def _predict(self, batch: list[AlignedWindow]) -> list[tuple[WindowPrediction, Flow | None]]:
        frames = torch.from_numpy(np.stack([centre(item.frames) for item in batch])).to(self.device)
        clips = normalise_frames(frames)
        start, end = batch[0].window.start, batch[-1].window.end
        probabilities, flow, landmarks, units = self.estimate(clips, f"frames {start} to {end}")
        if self.temperature is not None:
            probabilities = temper(probabilities, self.temperature).astype(np.float32)
        explanations: Sequence[Explanation | None] = [None] * len(batch)
        if self._explainer is not None:
            with _fits(len(batch)):
                explanations = self._explainer.predicted(clips[:, None], probabilities, flow, landmarks)
        return [
            _to_source(
                item,
                probabilities[i],
                None if flow is None else flow[i],
                None if landmarks is None else landmarks[i],
                explanations[i],
                None if units is None else units[i],
            )
            for i, item in enumerate(batch)
        ]


def predict(
    frames: npt.NDArray[np.uint8],
    weights: str | os.PathLike[str] = GENERAL,
    *,
    window: int | None = None,
    stride: int | None = None,
    fps: float | None = None,
    aligned: bool = False,
    faces: Finders = "mediapipe",
    person: int = 1,
    min_score: float | None = None,
    device: str = "auto",
    batch_size: int = 4,
    explain: bool = False,
) -> Prediction:
    """Predict micro-expression, optical flow and landmarks of the face in frames.

    Args:
        frames: uint8 (n, H, W), grey, or (n, H, W, 3), RGB; n >= 8.
        weights: a weights file, the folder of a run, or "owner/name". Default: the weights that come with mol-fast.
        window: length of a stretch in frames. Default: read all frames as one clip, as in training. The same if there
            are not more frames than this.
        stride: distance in frames from one stretch to the next. Default: half of `window`.
        fps: frames per second, for the times in the result.
        aligned: the frames are already aligned face crops, such as those of a prepared set. Then no face is searched,
            and the extra `faces` is not needed.
        faces: finder of faces, "mediapipe" or "dlib".
        person: number of the person to follow. People are numbered as they appear, the largest first.
        min_score: smallest score of a face. Default: that of the finder.
        device: "cpu", "cuda", ..., or "auto" (a GPU if there is one).
        batch_size: number of windows in one batch.
        explain: also say for each window what moved the score of its class, and what moved in the face: `explanation`
            of the result's windows, see `mol_fast.explain`.

    Raises:
        UserError: there are fewer than 8 frames, all windows are skipped, the finder of faces or the extra `explain`
            is needed but not installed, or weights or device cannot be used.
        ValueError: an argument has a wrong shape, dtype or range.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"fps must be positive and finite, got {fps!r}")
    source = FrameArray(frames, fps=fps, aligned=aligned)
    check_length(source)
    for name, value in (("window", window), ("stride", stride), ("batch_size", batch_size)):
        if value is not None and not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
    windows = plan_windows(source.count, window, stride, source.times)
    predictor = Predictor(weights, device, batch_size, explain=explain)
    tracker = None if aligned else FaceTracker(open_finder(faces, min_score), person)
    skipped: list[Skipped] = []
    done = list(predictor.run(source, windows, tracker, skipped))
    if not done:
        check_any(source, skipped, tracker)
    predictions, flow = zip(*done, strict=True)
    fields = list(flow) if "flow" in predictor.tasks else None
    temperature = predictor.temperature
    return summarise(predictor.classes, list(predictions), skipped, fields, tracker, fps, temperature=temperature)


def _to_source(
    item: AlignedWindow,
    probabilities: npt.NDArray[np.float32],
    flow: Flow | None,
    landmarks: npt.NDArray[np.float32] | None,
    explanation: Explanation | None,
    units: npt.NDArray[np.float32] | None,
) -> tuple[WindowPrediction, Flow | None]:
    matrix = centre_crop(item.matrix, FRAME, CROP)
    points = None if landmarks is None else transform(landmarks, inverse(matrix)).astype(np.float32)
    mean_flow = None if flow is None else float(np.hypot(flow[0], flow[1]).mean())
    seen = remark(centre(item.frames))
    place = matrix, item.face, item.anchor
    return WindowPrediction(item.window, probabilities, points, mean_flow, *place, seen, explanation, units), flow


def centre(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return what the model reads of aligned frames (..., 144, 144): their centre, (..., 128, 128)."""
    square = slice(MARGIN, MARGIN + CROP)
    return frames[..., square, square]


@contextmanager
def _fits(windows: int) -> Iterator[None]:
    """Raise UserError if a batch does not fit into memory inside the context."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"a batch of {windows} windows does not fit into memory, give a smaller batch size") from error


def _numpy(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    return tensor.float().cpu().numpy()


def _kept(items: Iterable[AlignedWindow | Skipped], skipped: list[Skipped]) -> Iterator[AlignedWindow]:
    """Yield aligned windows, and collect the skipped ones."""
    for item in items:
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            yield item


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one with what is left."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
