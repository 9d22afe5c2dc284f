"""Video files of every kind that people come with, written by FFmpeg."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt


def corners(height: int = 48, width: int = 64, levels: tuple[int, int, int, int] = (40, 90, 150, 210)) -> np.ndarray:
    """A grey picture (H, W) with a level in each quarter: top left, top right, bottom left, bottom right."""
    picture = np.empty((height, width), dtype=np.uint8)
    rows, columns = height // 2, width // 2
    picture[:rows, :columns], picture[:rows, columns:] = levels[:2]
    picture[rows:, :columns], picture[rows:, columns:] = levels[2:]
    return picture


def quarter_levels(picture: npt.NDArray[Any]) -> list[int]:
    """The level in the middle of each quarter of a picture (H, W) or (H, W, 3)."""
    height, width = picture.shape[:2]
    return [
        round(float(picture[y, x].mean())) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)
    ]


def write_file(
    path: Path,
    frames: Sequence[npt.NDArray[Any]],
    codec: str = "mpeg4",
    *,
    times: Sequence[float] | None = None,
    pixels: str = "yuv420p",
    pixel_shape: Fraction | None = None,
    turn: int = 0,
    gop: int = 12,
    options: dict[str, str] | None = None,
    shift: float = 0.0,
    container: dict[str, str] | None = None,
    drop: Sequence[int] = (),
    damage: Sequence[int] = (),
    cover: bool = False,
) -> Path:
    """Write grey frames (H, W) of 8 bits, 25 per second or at `times` in seconds.

    Args:
        shift: seconds that all time stamps are moved back; an mp4 file cuts what is before zero by an edit list.
        turn: degrees that a player turns the frames, counterclockwise.
        drop: packets that are left out.
        damage: packets whose content is overwritten.
        cover: a stream of one picture comes before the video.
    """
    unit = Fraction(1, 1000) if times is not None else Fraction(1, 25)
    with av.open(f"file:{path}", "w", options=container or {}) as output:
        if cover:
            picture = output.add_stream("mjpeg", rate=25)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt, stream.codec_context.time_base, stream.gop_size = pixels, unit, gop
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if turn:
            stream.set_display_rotation(turn)
        if cover:
            first = av.VideoFrame.from_ndarray(np.full((32, 32), 255, dtype=np.uint8), format="gray")
            for packet in (*picture.encode(first.reformat(format="yuvj420p")), *picture.encode()):
                output.mux(packet)
        number = 0
        for index in range(len(frames) + 1):
            image = None
            if index < len(frames):
                image = av.VideoFrame.from_ndarray(frames[index], format="gray").reformat(format=pixels)
                image.pts = index if times is None else round(1000 * times[index])
                image.time_base = unit
            for packet in stream.encode(image):
                if number in damage:
                    packet = _damaged(packet)
                if shift:
                    ticks = round(shift / packet.time_base)
                    packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                if number not in drop:
                    output.mux(packet)
                number += 1
    return path


def write_sound(path: Path) -> Path:
    """A file of sound alone."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        for packet in (*stream.encode(sound), *stream.encode(None)):
            output.mux(packet)
    return path


def _damaged(packet: av.Packet) -> av.Packet:
    damaged = av.Packet(bytes(packet.size))
    damaged.pts, damaged.dts, damaged.time_base, damaged.stream = (
        packet.pts,
        packet.dts,
        packet.time_base,
        packet.stream,
    )
    return damaged
