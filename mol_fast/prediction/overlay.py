"""Draw the annotated video: each frame with landmarks and flow on the face, and class probabilities below."""

import os
from collections.abc import Callable, Iterator
from itertools import chain

import cv2
import numpy as np
import numpy.typing as npt

from mol_fast.prediction.result import Prediction
from mol_fast.prediction.scenes import Scene, Scenes, Shown
from mol_fast.utils.ahead import ahead
from mol_fast.vision.align import Matrix, alignment, inverse, scale_of, transform
from mol_fast.vision.flow_color import color_wheel_legend, full_color
from mol_fast.vision.heat import heat_legend, lay_heat, warp_cells
from mol_fast.vision.sizes import CROP
from mol_fast.vision.video import FrameSource, Picture, rgb
from mol_fast.vision.write_video import Sound, VideoWriter, to_yuv

_SMALLEST_SIDE = 320  # smaller frames are enlarged, to make text and points visible
_AHEAD = 2  # frames that are read while others are drawn, and drawn while others are encoded
_OPACITY = 0.6  # opacity of flow at full colour
_SUBPIXEL = 4  # bits
_LINES = (  # first and last landmark, closed
    (0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False),
    (36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True),
)  # fmt: skip
_Colors = tuple[Picture, npt.NDArray[np.float32]]  # RGB (H, W, 3) of a region, and their opacity (H, W)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LANDMARK = (255, 225, 90)
_SHADE, _TEXT, _DIM, _BAR = (24, 24, 28), (240, 240, 240), (165, 165, 170), (90, 170, 250)


def write_annotated(
    path: str | os.PathLike[str],
    source: FrameSource,
    scenes: Scenes,
    prediction: Prediction,
    max_flow: float | None,
    heat: bool = False,
    sound: Sound | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> None:
    """Write the annotated video of all frames of `source`, with a few frames in memory at a time.

    Args:
        path: mp4 file to write.
        source: the frames.
        scenes: what is shown on each of them.
        prediction: prediction of the source.
        max_flow: flow length that gets full colour, in pixels of the crop; None to show no flow.
        heat: show what moved the score of the class.
        sound: sound of the frames, None for a silent video.
        on_frame: called after each frame.

    Raises:
        UserError: the source cannot be read again, or the file cannot be written.
    """
    frames = ahead(source, _AHEAD)
    first = next(frames)
    annotator = Annotator(prediction.classes, first.shape[1::-1], max_flow, _summary(prediction), heat)

    def pictures() -> Iterator[tuple[Picture, float | None]]:  # in YUV, half as large
        for index, frame in enumerate(chain([first], frames)):
            time = None if source.times is None else source.times[index] - source.times[0]
            yield to_yuv(annotator.draw(frame, scenes(index))), time

    with VideoWriter(path, annotator.size, source.fps, sound) as writer:
        for picture, time in ahead(pictures(), _AHEAD):
            writer.write_yuv(picture, time)
            on_frame()


def _summary(prediction: Prediction) -> str:
    if prediction.moments is not None:
        count = len(prediction.moments)
        return "1 moment" if count == 1 else f"{count or 'no'} moments"
    assert prediction.label is not None
    assert prediction.probabilities is not None
    return f"clip: {prediction.verdict(prediction.label, float(prediction.probabilities.max()))}"


class Annotator:
    """Annotator of frames of one size.

    Args:
        classes: names of the classes.
        size: (width, height) of the frames in pixels.
        max_flow: flow length that gets full colour, in pixels of the crop; None to show no flow.
        summary: line of text about the whole clip.
        heat: show heat instead of flow.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        size: tuple[int, int],
        max_flow: float | None,
        summary: str,
        heat: bool = False,
    ) -> None:
        self.classes = classes
        self.max_flow = None if heat else max_flow
        self.summary = summary
        self.heat = heat
        self._zoom = -(-_SMALLEST_SIDE // min(size)) if min(size) < _SMALLEST_SIDE else 1
        self._width, self._height = size[0] * self._zoom, size[1] * self._zoom
        self._line = round(min(max(self._width / 26, 18), 48))  # height of a line of text
        self._panel = self._line * (len(classes) + 3)
        self._canvas = np.full((self._height + self._panel, self._width, 3), _SHADE, dtype=np.uint8)
        self._colored: tuple[npt.NDArray[np.float32], Matrix, _Colors] | None = None  # the last flow, and its place
        self._in_panel: tuple[npt.NDArray[np.float32] | None, str | None] = (None, None)  # what is drawn there now
        wheel = self._line * len(classes)
        self._legend = heat_legend(wheel) if heat else color_wheel_legend(wheel)
        self._disc = heat | (np.hypot(*(np.indices((wheel, wheel)) - (wheel - 1) / 2)) <= wheel / 2)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures in pixels.

        Frames smaller than 320 pixels are enlarged by a whole number. The panel with the classes is below the frame.
        """
        return self._width, self._height + self._panel

    def draw(self, frame: Picture, scene: Scene) -> Picture:
        """Draw an annotated frame, RGB (H', W', 3) of `size`. The next call draws into the same picture.

        Args:
            frame: uint8 (H, W) or (H, W, 3).
            scene: what is shown on it.
        """
        shown = scene.shown
        picture = self._canvas[: self._height]
        if self._zoom == 1:
            picture[:] = frame if frame.ndim == 3 else frame[..., None]
        else:
            cv2.resize(rgb(frame), (self._width, self._height), picture, interpolation=cv2.INTER_CUBIC)
        if shown.matrix is not None:
            self._draw_region(picture, shown, shown.matrix)
        if shown.landmarks is not None:
            self._draw_landmarks(picture, shown.landmarks, shown.matrix)
        self._draw_panel(self._canvas[self._height :], scene)
        return self._canvas

    def _draw_region(self, picture: Picture, shown: Shown, matrix: Matrix) -> None:
        """Outline the region of the crop, if the model reads it, and blend flow or heat into it."""
        to_picture = inverse(matrix)
        to_picture = np.column_stack([self._zoom * to_picture[:, :2], self._zoom * (to_picture[:, 2] + 0.5) - 0.5])
        corners = transform(np.array([(0, 0), (CROP - 1, 0), (CROP - 1, CROP - 1), (0, CROP - 1)]), to_picture)
        left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (self._width, self._height))
        right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, (self._width, self._height))
        if right <= left or bottom <= top:
            return
        region = picture[top:bottom, left:right]
        local = np.column_stack([to_picture[:, :2], to_picture[:, 2] - (left, top)])
        if self.heat and shown.heat is not None:
            region[:] = lay_heat(region, warp_cells(shown.heat, local, region.shape[1::-1]))
        elif shown.flow is not None and self.max_flow is not None:
            last = self._colored
            if last is None or last[0] is not shown.flow or last[1] is not matrix:  # many frames show one pair
                colors = _colored(shown.flow, self.max_flow, matrix, local, region.shape[1::-1])
                self._colored = last = shown.flow, matrix, colors
            color, alpha = last[2]
            region[:] = cv2.blendLinear(color, region, alpha, 1 - alpha)
        if shown.probabilities is None:
            return
        cv2.polylines(picture, [_fixed_point(corners)], True, _DIM, 1, cv2.LINE_AA, _SUBPIXEL)

    def _draw_landmarks(self, picture: Picture, landmarks: npt.NDArray[np.float32], matrix: Matrix | None) -> None:
        points = (landmarks.astype(np.float64) + 0.5) * self._zoom - 0.5
        # of the crop, in the picture
        pixel = self._zoom / scale_of(alignment(landmarks) if matrix is None else matrix)
        fixed = _fixed_point(points)
        color = _DIM if self.heat else _LANDMARK  # heat is yellow, too
        for first, last, closed in _LINES:
            cv2.polylines(picture, [fixed[first : last + 1]], closed, color, 1, cv2.LINE_AA, _SUBPIXEL)
        radius = round(max(1.5, 0.8 * pixel) * (1 << _SUBPIXEL))
        for centre in fixed.tolist():
            cv2.circle(picture, centre, radius, color, -1, cv2.LINE_AA, _SUBPIXEL)

    def _draw_panel(self, panel: Picture, scene: Scene) -> None:
        line, margin = self._line, self._line // 2
        shown = scene.shown
        panel[: line * 3 // 2] = _SHADE
        heat = "   heat: what moved the score" if self.heat and shown.heat is not None else ""
        self._text(panel, scene.caption + heat, margin, line // 2, self._width - 2 * margin, _DIM)
        probabilities, remark = self._in_panel
        if shown.probabilities is probabilities and shown.remark == remark:  # only the caption is new
            return
        self._in_panel = shown.probabilities, shown.remark
        panel[line * 3 // 2 :] = _SHADE
        wheel = len(self._legend)
        right = self._width - wheel - 2 * margin
        if shown.probabilities is not None:
            self._draw_classes(panel, shown.probabilities, margin, right - margin)
        else:
            self._text(panel, shown.remark, margin, line * 3 // 2, right - margin, _TEXT)
        bottom = self._panel - line * 5 // 4
        self._text(panel, self.summary, margin, bottom, right - margin, _TEXT)
        if self.max_flow is None and not self.heat:
            return
        place = panel[line * 3 // 2 : line * 3 // 2 + wheel, right + margin : right + margin + wheel]
        place[self._disc] = self._legend[self._disc]
        text = "most on top" if self.max_flow is None else f"flow {self.max_flow:.2g} px"
        self._text(panel, text, right + margin, bottom, wheel, _DIM)

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


def _colored(
    flow: npt.NDArray[np.float32], max_flow: float, matrix: Matrix, local: Matrix, size: tuple[int, int]
) -> _Colors:
    """Return the colours of the flow in a region, and how opaque they are: faster flow is more opaque.

    Args:
        flow: (2, 128, 128) in pixels of the crop.
        max_flow: flow length that gets full colour.
        matrix: from the frame to the crop; it turns directions back to the frame's.
        local: from the crop to the region.
        size: (width, height) of the region.
    """
    upright = inverse(matrix)[:, :2] * scale_of(matrix)  # a rotation: lengths stay those of the crop
    x, y = np.tensordot(upright.astype(np.float32), flow, 1)
    length, angle = cv2.cartToPolar(x, y)
    opacity = np.minimum(length * (_OPACITY / max_flow), _OPACITY)
    alpha = cv2.warpAffine(opacity, local, size)
    color = cv2.warpAffine(full_color(angle), local, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(color, dtype=np.uint8), np.asarray(alpha, dtype=np.float32)
