"""Draw the annotated video: each frame with landmarks and flow on the face, and class probabilities below."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
import numpy.typing as npt

from mol_fast.prediction.result import Prediction
from mol_fast.prediction.windows import Window
from mol_fast.utils.ahead import ahead
from mol_fast.vision.align import Matrix, inverse, scale_of, transform
from mol_fast.vision.flow_color import color_wheel_legend, flow_to_color
from mol_fast.vision.sizes import CROP, PAIRS, WINDOW
from mol_fast.vision.video import FrameSource, Picture, rgb
from mol_fast.vision.write_video import Sound, VideoWriter

_SMALLEST_SIDE = 320  # smaller frames are enlarged, to make text and points visible
_AHEAD = 2  # frames that are read while others are drawn, and drawn while others are encoded
_OPACITY = 0.6  # opacity of flow at full colour
_SUBPIXEL = 4  # bits
_LINES = (  # first and last landmark, closed
    (0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False),
    (36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True),
)  # fmt: skip
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LANDMARK = (255, 225, 90)
_SHADE, _TEXT, _DIM, _BAR = (24, 24, 28), (240, 240, 240), (165, 165, 170), (90, 170, 250)


@dataclass(frozen=True)
class Shown:
    """The prediction drawn on a frame: one pair of one window. Tasks that the model lacks are None."""

    probabilities: npt.NDArray[np.float32]  # (K,), of the window
    landmarks: npt.NDArray[np.float32] | None  # (68, 2) in pixels of the frame
    flow: npt.NDArray[np.float32] | None  # (2, 128, 128) in pixels of the crop
    matrix: Matrix  # (2, 3) from the frame to the crop


def write_annotated(
    path: str | os.PathLike[str],
    source: FrameSource,
    windows: list[Window],
    prediction: Prediction,
    max_flow: float,
    sound: Sound | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> None:
    """Write the annotated video of all frames of `source`, with one frame in memory at a time.

    Args:
        path: mp4 file to write.
        source: the frames.
        windows: all windows, also those without a prediction.
        prediction: prediction for `windows`.
        max_flow: flow length that gets full colour, in pixels of the crop.
        sound: sound of the frames, None for a silent video.
        on_frame: called after each frame.

    Raises:
        UserError: the source cannot be read again, or the file cannot be written.
    """
    place = {item.window: k for k, item in enumerate(prediction.windows)}
    reasons = {item.window: item.reason for item in prediction.skipped}
    pairs = shown_pairs(windows, source.count).tolist()
    summary = _summary(prediction)
    frames = ahead(source, _AHEAD)
    first = next(frames)
    fastest = None if prediction.flow is None else max_flow
    annotator = Annotator(prediction.classes, first.shape[1::-1], fastest, summary)

    def pictures() -> Iterator[tuple[Picture, float | None]]:
        for index, frame in enumerate(chain([first], frames)):
            number, pair = pairs[index]
            window = windows[number]
            shown = _shown(prediction, place[window], pair) if window in place else reasons[window]
            time = None if source.times is None else source.times[index] - source.times[0]
            clock = "" if source.times is None else f"   {source.times[index]:.2f} s"
            caption = f"frame {prediction.first + index}{clock}   window {number + 1} of {len(windows)}"
            caption += _moment_at(prediction, prediction.first + index)
            yield annotator.draw(frame, caption, shown), time

    with VideoWriter(path, annotator.size, source.fps, sound) as writer:
        for picture, time in ahead(pictures(), _AHEAD):
            writer.write(picture, time)
            on_frame()


def _summary(prediction: Prediction) -> str:
    if prediction.moments is None:
        return f"clip: {prediction.label} {prediction.probabilities.max():.2f}"
    count = len(prediction.moments)
    return "1 moment" if count == 1 else f"{count or 'no'} moments"


def _moment_at(prediction: Prediction, frame: int) -> str:
    for number, moment in enumerate(prediction.moments or (), start=1):
        if moment.onset <= frame <= moment.offset:
            return f"   moment {number}: {moment.kind}"
    return ""


def _shown(prediction: Prediction, k: int, pair: int) -> Shown:
    window = prediction.windows[k]
    landmarks = None if window.landmarks is None else window.landmarks[pair]
    flow = None if prediction.flow is None else prediction.flow[k][:, pair]
    return Shown(window.probabilities, landmarks, flow, window.matrix)


def shown_pairs(windows: list[Window], count: int) -> npt.NDArray[np.int64]:
    """Choose the window, and one of its 7 pairs, to show on each frame of a video.

    If the video is one clip, choose the window that contains the frame. Otherwise choose the window whose middle is
    nearest. The pair is the latest one that ends at or before the frame; the first pair if there is none.

    Args:
        windows: all windows of the video, from `plan_windows`.
        count: number of frames of the video.

    Returns:
        (count, 2): index into `windows`, index of the pair.
    """
    index = np.arange(count)
    frames = np.array([window.frames for window in windows])
    if windows[0].anchor == windows[-1].anchor:
        interval = len(windows)
        k = np.where(index < WINDOW * interval, index % interval, interval - 1)
    else:
        middles = (frames[:, 0] + frames[:, -1]) / 2
        k = np.searchsorted((middles[1:] + middles[:-1]) / 2, index)
    pair = np.clip((frames[k] <= index[:, None]).sum(1) - 2, 0, PAIRS - 1)
    return np.stack([k, pair], axis=1)


class Annotator:
    """Annotator of frames of one size.

    Args:
        classes: names of the classes.
        size: (width, height) of the frames in pixels.
        max_flow: flow length that gets full colour, in pixels of the crop; None to show no flow.
        summary: line of text about the whole clip.
    """

    def __init__(self, classes: tuple[str, ...], size: tuple[int, int], max_flow: float | None, summary: str) -> None:
        self.classes = classes
        self.max_flow = max_flow
        self.summary = summary
        self._zoom = -(-_SMALLEST_SIDE // min(size)) if min(size) < _SMALLEST_SIDE else 1
        self._width, self._height = size[0] * self._zoom, size[1] * self._zoom
        self._line = round(min(max(self._width / 26, 18), 48))  # height of a line of text
        self._panel = self._line * (len(classes) + 3)
        self._empty = np.full((self._height + self._panel, self._width, 3), _SHADE, dtype=np.uint8)
        wheel = self._line * len(classes)
        self._legend = color_wheel_legend(wheel)
        self._disc = np.hypot(*(np.indices((wheel, wheel)) - (wheel - 1) / 2)) <= wheel / 2

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures in pixels.

        Frames smaller than 320 pixels are enlarged by a whole number. The panel with the classes is below the frame.
        """
        return self._width, self._height + self._panel

    def draw(self, frame: Picture, caption: str, shown: Shown | str) -> Picture:
        """Draw an annotated frame, RGB (H', W', 3) of `size`.

        Args:
            frame: uint8 (H, W) or (H, W, 3).
            caption: line of text about the frame.
            shown: the prediction, or why there is none.
        """
        canvas = self._empty.copy()
        picture = canvas[: self._height]
        size = self._width, self._height
        picture[:] = rgb(frame) if self._zoom == 1 else cv2.resize(rgb(frame), size, interpolation=cv2.INTER_CUBIC)
        if isinstance(shown, Shown):
            self._draw_region(picture, shown)
            if shown.landmarks is not None:
                self._draw_landmarks(picture, shown.landmarks, shown.matrix)
        self._draw_panel(canvas[self._height :], caption, shown)
        return canvas

    def _draw_region(self, picture: Picture, shown: Shown) -> None:
        """Outline the region of the crop, and blend the flow into it."""
        to_picture = inverse(shown.matrix)
        to_picture = np.column_stack([self._zoom * to_picture[:, :2], self._zoom * (to_picture[:, 2] + 0.5) - 0.5])
        corners = transform(np.array([(0, 0), (CROP - 1, 0), (CROP - 1, CROP - 1), (0, CROP - 1)]), to_picture)
        left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (self._width, self._height))
        right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, (self._width, self._height))
        if right <= left or bottom <= top:
            return
        if shown.flow is not None and self.max_flow is not None:
            local = np.column_stack([to_picture[:, :2], to_picture[:, 2] - (left, top)])
            _blend_flow(picture[top:bottom, left:right], shown.flow, self.max_flow, shown.matrix, local)
        cv2.polylines(picture, [_fixed_point(corners)], True, _DIM, 1, cv2.LINE_AA, _SUBPIXEL)

    def _draw_landmarks(self, picture: Picture, landmarks: npt.NDArray[np.float32], matrix: Matrix) -> None:
        points = (landmarks.astype(np.float64) + 0.5) * self._zoom - 0.5
        pixel = self._zoom / scale_of(matrix)  # of the crop, in the picture
        fixed = _fixed_point(points)
        for first, last, closed in _LINES:
            cv2.polylines(picture, [fixed[first : last + 1]], closed, _LANDMARK, 1, cv2.LINE_AA, _SUBPIXEL)
        radius = round(max(1.5, 0.8 * pixel) * (1 << _SUBPIXEL))
        for x, y in fixed:
            cv2.circle(picture, (int(x), int(y)), radius, _LANDMARK, -1, cv2.LINE_AA, _SUBPIXEL)

    def _draw_panel(self, panel: Picture, caption: str, shown: Shown | str) -> None:
        line, margin = self._line, self._line // 2
        wheel = len(self._legend)
        right = self._width - wheel - 2 * margin
        self._text(panel, caption, margin, line // 2, self._width - 2 * margin, _DIM)
        if isinstance(shown, Shown):
            self._draw_classes(panel, shown.probabilities, margin, right - margin)
        else:
            self._text(panel, shown, margin, line * 3 // 2, right - margin, _TEXT)
        bottom = self._panel - line * 5 // 4
        self._text(panel, self.summary, margin, bottom, right - margin, _TEXT)
        if self.max_flow is None:
            return
        place = panel[line * 3 // 2 : line * 3 // 2 + wheel, right + margin : right + margin + wheel]
        place[self._disc] = self._legend[self._disc]
        self._text(panel, f"flow {self.max_flow:.2g} px", right + margin, bottom, wheel, _DIM)

    def _draw_classes(self, panel: Picture, probabilities: npt.NDArray[np.float32], left: int, right: int) -> None:
        """Draw one row per class: name, bar, probability."""
        line = self._line
        names = min(max(self._text_width(name) for name in self.classes), (right - left) // 2)
        number = self._text_width("0.00")
        bar = left + names + line // 2
        length = max(right - bar - number - line // 2, 1)
        best = int(probabilities.argmax())
        for row, (name, probability) in enumerate(zip(self.classes, probabilities, strict=True)):
            top = line * 3 // 2 + row * line
            color = _TEXT if row == best else _DIM
            self._text(panel, name, left, top, names, color)
            low, high = (bar, top + line // 4), (bar + round(length * float(probability)), top + line * 3 // 4)
            cv2.rectangle(panel, (bar, low[1]), (bar + length, high[1]), (56, 56, 62), -1)
            cv2.rectangle(panel, low, high, _BAR if row == best else _DIM, -1)
            self._text(panel, f"{probability:.2f}", right - number, top, number, color)

    def _text(self, panel: Picture, text: str, left: int, top: int, width: int, color: tuple[int, int, int]) -> None:
        """Draw text centred in the line at `top`, narrowed to fit into `width`."""
        scale = self._font_scale * min(1.0, width / max(self._text_width(text), 1))
        baseline = top + round(0.5 * self._line + 11 * scale)  # capital letters are 22 pixels high at scale 1
        cv2.putText(panel, text, (left, baseline), _FONT, scale, color, max(1, round(scale * 1.5)), cv2.LINE_AA)

    def _text_width(self, text: str) -> int:
        return int(cv2.getTextSize(text, _FONT, self._font_scale, max(1, round(self._font_scale * 1.5)))[0][0])

    @property
    def _font_scale(self) -> float:
        return self._line * 0.55 / 22


def _fixed_point(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    return np.rint(np.clip(points, -1e5, 1e5) * (1 << _SUBPIXEL)).astype(np.int32)


def _blend_flow(region: Picture, flow: npt.NDArray[np.float32], max_flow: float, matrix: Matrix, local: Matrix) -> None:
    """Blend the flow into `region`; faster flow is more opaque.

    `local` maps the crop to the region. `matrix` maps the frame to the crop; it turns directions back to the frame's.
    """
    upright = inverse(matrix)[:, :2] * scale_of(matrix)  # a rotation: lengths stay those of the crop
    flow = np.einsum("ij,jhw->ihw", upright, flow)
    opacity = _OPACITY * np.minimum(np.hypot(*flow) / max_flow, 1)
    hue = flow_to_color(flow / np.maximum(np.hypot(*flow) / max_flow, 1e-6), max_flow)
    place = region.shape[1::-1]
    alpha = cv2.warpAffine(opacity.astype(np.float32), local, place)[..., None]
    color = cv2.warpAffine(hue, local, place, borderMode=cv2.BORDER_REPLICATE)
    region[:] = np.rint(region + alpha * (color.astype(np.float32) - region)).astype(np.uint8)
