"""Draw prepared videos: frames with landmarks, flow in colour, captions, grids."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mol_fast.vision.flow_color import color_wheel_legend, flow_to_color

Picture = npt.NDArray[np.uint8]

TRUE = (255, 60, 40)
PREDICTED = (60, 160, 255)
_CAPTION = 16  # pixels, height
_LEAST_FLOW = 0.1  # pixels; shorter flow never gets full colour


def frame_picture(frame: Tensor, landmarks: Tensor, zoom: int = 1) -> Picture:
    """Draw a frame, uint8 (H, W), enlarged by `zoom`, with its landmarks (68, 2): RGB (zoom H, zoom W, 3)."""
    import cv2

    height, width = frame.shape
    size = (zoom * width, zoom * height)
    enlarged = cv2.resize(frame.numpy(), size, interpolation=cv2.INTER_CUBIC)
    picture: Picture = np.asarray(cv2.cvtColor(enlarged, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    mark(picture, landmarks, zoom, TRUE)
    return picture


def mark(picture: Picture, landmarks: Tensor, zoom: int, colour: tuple[int, int, int]) -> None:
    """Draw `landmarks` (68, 2) in place, on a picture that is enlarged by `zoom`."""
    import cv2

    for x, y in ((landmarks.numpy() + 0.5) * zoom - 0.5).tolist():
        cv2.circle(picture, (round(x), round(y)), max(1, zoom // 2), colour, -1, cv2.LINE_AA)


def flow_picture(flow: Tensor, max_flow: float, zoom: int = 1) -> Picture:
    """Draw flow (2, H, W) in colour, enlarged by `zoom`: RGB (zoom H, zoom W, 3)."""
    return np.repeat(np.repeat(flow_to_color(flow, max_flow), zoom, axis=0), zoom, axis=1)


def wheel_picture(size: int) -> Picture:
    """Draw the colour wheel of flow, a disc in a square of `size` pixels."""
    return color_wheel_legend(size)


def full_colour(flow: Tensor) -> float:
    """Return the flow length, in pixels, that gets full colour: the 99th percentile."""
    lengths = np.hypot(*flow.float().movedim(-3, 0).numpy())
    return max(float(np.quantile(lengths, 0.99)), _LEAST_FLOW)


def captioned(picture: Picture, caption: str) -> Picture:
    """Add a line of text below a picture; letters outside ASCII become "?"."""
    import cv2

    strip = np.full((_CAPTION, picture.shape[1], 3), 255, dtype=np.uint8)
    text = caption.encode("ascii", "replace").decode()
    cv2.putText(strip, text, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


def grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Arrange pictures in rows on white, aligned left and top."""
    bands = []
    for row in rows:
        height = max(picture.shape[0] for picture in row)
        bands.append(np.concatenate([_padded(picture, height, picture.shape[1]) for picture in row], axis=1))
    width = max(band.shape[1] for band in bands)
    return np.concatenate([_padded(band, band.shape[0], width) for band in bands])


def encoded_png(picture: Picture) -> bytes:
    """Encode an RGB picture as a PNG file."""
    import cv2

    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def _padded(picture: Picture, height: int, width: int) -> Picture:
    rows, columns = height - picture.shape[0], width - picture.shape[1]
    return np.pad(picture, ((0, rows), (0, columns), (0, 0)), constant_values=255)
