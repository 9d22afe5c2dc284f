"""Draw the annotated video: each frame with landmarks and flow on the face, and class probabilities below."""

import os
from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mol_fast.prediction.part import in_yuv
from mol_fast.prediction.result import Prediction
from mol_fast.prediction.scenes import Scene, Scenes, Shown
from mol_fast.utils.ahead import ahead
from mol_fast.vision.align import Matrix, alignment, inverse, scale_of, transform
from mol_fast.vision.flow_color import color_wheel_legend, full_color
from mol_fast.vision.heat import heat_colors, heat_legend, warp_cells
from mol_fast.vision.sizes import CROP
from mol_fast.vision.video import FrameSource, Picture
from mol_fast.vision.write_video import Sound, VideoWriter
from mol_fast.vision.yuv import Layer, Yuv, planes, size_of, to_yuv

_SMALLEST_SIDE = 320  # smaller frames are enlarged, to make text and points visible
_AHEAD = 4  # frames that are read and drawn while others are encoded
_OPACITY = 0.6  # opacity of flow at full colour
_SUBPIXEL = 4  # bits
_LINES = (  # first and last landmark, closed
    (0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False),
    (36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True),
)  # fmt: skip
_Colors = tuple[Picture, npt.NDArray[np.float32]]  # RGB (H, W, 3) of a region, and their opacity (H, W), 0 to 1
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LANDMARK = (255, 225, 90)
_SHADE, _TEXT, _DIM, _BAR = (24, 24, 28), (240, 240, 240), (165, 165, 170), (90, 170, 250)
_DIM_CAPTION = (158,)  # brightness of _DIM in YUV; its colour is as good as that of _SHADE


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
    frames = in_yuv(source)
    first = next(frames)
    annotator = Annotator(prediction.classes, size_of(first), max_flow, _summary(prediction), heat)
    drawn = (annotator.draw(frame, scenes(index)) for index, frame in enumerate(chain([first], frames)))
    with VideoWriter(path, annotator.size, source.fps, sound) as writer:
        for index, picture in enumerate(ahead(drawn, _AHEAD)):
            time = None if source.times is None else source.times[index] - source.times[0]
            writer.write_yuv(picture, time)
            on_frame()


def _summary(prediction: Prediction) -> str:
    if prediction.moments is not None:
        count = len(prediction.moments)
        return "1 moment" if count == 1 else f"{count or 'no'} moments"
    assert prediction.label is not None
    assert prediction.probabilities is not None
    return f"clip: {prediction.verdict(prediction.label, float(prediction.probabilities.max()))}"


class _Drawn(NamedTuple):
    """What is drawn on the face, or was on the last frame: many frames show the same, so it is drawn once."""

    shown: Shown
    layer: Layer | None

    def serves(self, shown: Shown) -> bool:
        """Return whether it shows the same as `shown`."""
        last = self.shown
        same = (last.landmarks is shown.landmarks, last.flow is shown.flow, last.matrix is shown.matrix)
        return all(same) and last.heat is shown.heat and (last.probabilities is None) == (shown.probabilities is None)


class Annotator:
    """Annotator of frames of one size.

    Args:
        classes: names of the classes.
        size: (width, height) of the frames in pixels, even.
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
        self._panel += self._panel % 2
        self._drawn = _Drawn(Shown(), None)
        self._in_panel: tuple[npt.NDArray[np.float32] | None, str] | None = None  # what the last panel shows
        self._last_panel = np.zeros((0, 0), dtype=np.uint8)
        wheel = self._line * len(classes)
        self._legend = heat_legend(wheel) if heat else color_wheel_legend(wheel)
        self._disc = heat | (np.hypot(*(np.indices((wheel, wheel)) - (wheel - 1) / 2)) <= wheel / 2)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures in pixels, even.

        Frames smaller than 320 pixels are enlarged by a whole number. The panel with the classes is below the frame.
        """
        return self._width, self._height + self._panel

    def draw(self, frame: Yuv, scene: Scene) -> Yuv:
        """Return an annotated frame, of `size`.

        Args:
            frame: the frame.
            scene: what is shown on it.
        """
        width, height = self.size
        picture = np.empty((height * 3 // 2, width), dtype=np.uint8)
        for whole, plane, panel in zip(planes(picture), planes(frame), planes(self._panel_of(scene)), strict=True):
            rows = len(whole) - len(panel)
            if self._zoom == 1:
                whole[:rows] = plane
            else:
                cv2.resize(plane, (whole.shape[1], rows), whole[:rows], interpolation=cv2.INTER_CUBIC)
            whole[rows:] = panel
        if not self._drawn.serves(scene.shown):
            self._drawn = _Drawn(scene.shown, self._draw_face(scene.shown))
        if self._drawn.layer is not None:
            self._drawn.layer.lay(picture)
        heat = "   heat: what moved the score" if self.heat and scene.shown.heat is not None else ""
        bottom, margin = planes(picture)[0][self._height :], self._line // 2
        self._text(bottom, scene.caption + heat, margin, margin, self._width - 2 * margin, _DIM_CAPTION)
        return picture

    def _draw_face(self, shown: Shown) -> Layer | None:
        """Draw outline and flow or heat of the crop, and landmarks; None if nothing of them is in the picture."""
        marks = np.zeros((0, 2))
        crop = marks
        to_picture = None if shown.matrix is None else self._to_picture(shown.matrix)
        if to_picture is not None:
            crop = transform(np.array([(0, 0), (CROP - 1, 0), (CROP - 1, CROP - 1), (0, CROP - 1)]), to_picture)
        radius = 0.0
        if shown.landmarks is not None:
            marks = (shown.landmarks.astype(np.float64) + 0.5) * self._zoom - 0.5
            scale = scale_of(alignment(shown.landmarks) if shown.matrix is None else shown.matrix)
            radius = max(1.5, 0.8 * self._zoom / scale)  # of 0.8 pixels of the crop
        around = np.concatenate([crop, marks - radius - 1, marks + radius + 1])
        if not len(around):
            return None
        low = np.clip(np.floor(around.min(0)).astype(int), 0, (self._width, self._height)) // 2 * 2
        high = -(-np.clip(np.ceil(around.max(0)).astype(int) + 1, 0, (self._width, self._height)) // 2) * 2
        if (high <= low).any():
            return None
        drawn = np.zeros((*(high - low)[::-1], 4), dtype=np.uint8)
        if to_picture is not None:
            local = np.column_stack([to_picture[:, :2], to_picture[:, 2] - low])
            self._draw_crop(drawn, shown, local)
            if shown.probabilities is not None:
                cv2.polylines(drawn, [_fixed_point(crop - low)], True, (*_DIM, 255), 1, cv2.LINE_AA, _SUBPIXEL)
        self._draw_landmarks(drawn, marks - low, radius)
        return Layer(drawn, *low.tolist())

    def _to_picture(self, matrix: Matrix) -> Matrix:
        """Return the matrix from the crop to the picture."""
        to_frame = inverse(matrix)
        return np.column_stack([self._zoom * to_frame[:, :2], self._zoom * (to_frame[:, 2] + 0.5) - 0.5])

    def _draw_crop(self, drawn: Picture, shown: Shown, local: Matrix) -> None:
        """Draw flow or heat of the crop, which `local` maps to the region that is drawn."""
        size = drawn.shape[1::-1]
        if self.heat and shown.heat is not None:
            color, alpha = heat_colors(warp_cells(shown.heat, local, size))
        elif shown.flow is not None and self.max_flow is not None and shown.matrix is not None:
            color, alpha = _colored(shown.flow, self.max_flow, shown.matrix, local, size)
        else:
            return
        drawn[..., :3] = np.rint(color * alpha[..., None])
        drawn[..., 3] = np.rint(255 * alpha)

    def _draw_landmarks(self, drawn: Picture, points: npt.NDArray[np.float64], radius: float) -> None:
        fixed = _fixed_point(points)
        color = (*(_DIM if self.heat else _LANDMARK), 255)  # heat is yellow, too
        for first, last, closed in _LINES if len(fixed) else ():
            cv2.polylines(drawn, [fixed[first : last + 1]], closed, color, 1, cv2.LINE_AA, _SUBPIXEL)
        for centre in fixed.tolist():
            cv2.circle(drawn, centre, round(radius * (1 << _SUBPIXEL)), color, -1, cv2.LINE_AA, _SUBPIXEL)

    def _panel_of(self, scene: Scene) -> Yuv:
        """Return the panel of a scene without its caption."""
        shown = scene.shown
        last = self._in_panel
        if last is None or shown.probabilities is not last[0] or shown.remark != last[1]:
            self._in_panel = shown.probabilities, shown.remark
            panel = np.full((self._panel, self._width, 3), _SHADE, dtype=np.uint8)
            self._draw_panel(panel, shown)
            self._last_panel = to_yuv(panel)
        return self._last_panel

    def _draw_panel(self, panel: Picture, shown: Shown) -> None:
        line, margin = self._line, self._line // 2
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

    def _text(self, panel: Picture, text: str, left: int, top: int, width: int, color: tuple[int, ...]) -> None:
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
