"""Read video files with PyAV (FFmpeg): the pixels of the displayed picture, and the time stamp of every frame."""

import contextlib
import math
import os
import struct
from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mol_fast.utils.errors import UserError
from mol_fast.vision.video import Picture, Times, check_picture_size, even_times, grey
from mol_fast.vision.yuv import Yuv, to_grey, to_yuv

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_MOST_BROKEN = 0.25  # largest share of packets that cannot be decoded; a file with more is refused
_RATE_TOLERANCE = 0.01  # largest relative difference of the stored rate and the mean rate of the time stamps
_FLATTEST = 8  # largest ratio of the sides of a pixel; a larger one is damage
_ONE_THREAD = 1_000_000  # pixels; smaller frames are decoded faster than anything else is done with them
_UPRIGHT = (1, 0, 0, 1)
_BT_601, _NARROW = (2, 5, 6), (0, 1)  # matrix and range of FFmpeg, or not told
_LISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")  # how files begin that name other files or addresses


class VideoFile:
    """The frames of a video file as a player shows them.

    Frames are turned upright, have square pixels, are deinterlaced, and are cut by the edit list of the file. They are
    scaled to 8 bits. The stream is the first that is no cover picture and has more than one frame. The constructor
    decodes the file once to find the time stamps. Frames that cannot be decoded are left out, with a note.

    Args:
        path: the file.
        fps: frames per second; replaces the time stamps.

    Raises:
        UserError: the file cannot be read as video, is truncated, or much of it cannot be decoded; PyAV is missing.
    """

    aligned = False

    def __init__(self, path: str | os.PathLike[str], fps: float | None = None) -> None:
        self.path = Path(path)
        self.name = str(path)
        self._interlaced = False
        self._broken = 0
        with _opened(self.path) as container:
            stream = self._choose(container)
            self._stream = container.streams.video.index(stream)
            check_picture_size(self.name, stream.codec_context.width, stream.codec_context.height)
            pixel = stream.sample_aspect_ratio or Fraction(1)
            announced, stored_rate = stream.frames, stream.average_rate
            begin = None if container.start_time is None else container.start_time / 1_000_000
            stamps: list[float | None] = []
            packets = self._packets(container, stream)
            for frame in self._decode(packets, stream):
                if not stamps:
                    self._turn = _turn(frame)
                    self._size = _square(frame.width, frame.height, pixel)
                self._interlaced = self._interlaced or frame.interlaced_frame
                stamps.append(_time(frame, stream.time_base))
            cut = self._cut(stream)
        self.count = len(stamps)
        if cut:
            of = f" of {announced}" if announced else ""
            raise UserError(f"{self.name} ends after {self.count}{of} frames, the file is truncated or damaged")
        if not self.count:
            raise UserError(f"{self.name} has no readable frame, the file is damaged or encrypted")
        if self._broken > _MOST_BROKEN * (self.count + self._broken):
            raise UserError(
                f"{self._broken} of {self.count + self._broken} frames of {self.name} cannot be decoded, "
                "the file is damaged or encrypted"
            )
        check_picture_size(self.name, *self._size)
        times = _filled(stamps, begin)
        self.fps = fps or _rate(times, stored_rate)
        self.times: Times | None = times if fps is None else even_times(self.count, fps)
        self.notes = self._notes(announced)

    def __iter__(self) -> Iterator[Picture]:
        to_rgb = self._converter()
        for frame in self._shown():
            yield to_rgb(frame)

    def pick(self, indices: Collection[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the frames with these indices, ascending, each with its index; the others are not converted."""
        to_rgb, last = self._converter(), max(indices, default=-1)
        for index, frame in enumerate(islice(self._shown(), last + 1)):
            if index in indices:
                yield index, to_rgb(frame)

    def in_yuv(self) -> Iterator[Yuv]:
        """Yield the frames in YUV; they are converted only where the file holds others."""
        to_rgb = self._converter()
        for frame in self._shown():
            yield np.asarray(frame.to_ndarray(), np.uint8) if self._is_plain(frame) else to_yuv(to_rgb(frame))

    def in_grey(self) -> Iterator[Picture]:
        """Yield the frames in grey; frames that the file holds in YUV are not converted to RGB first."""
        to_rgb = self._converter()
        for frame in self._shown():
            yield to_grey(_brightness(frame)) if self._is_plain(frame) else grey(to_rgb(frame))

    def _converter(self) -> Callable[["VideoFrame"], Picture]:
        """Return a function that converts frames to RGB, with square pixels and upright."""
        from av.video.reformatter import Interpolation, VideoReformatter

        reformatter = VideoReformatter()
        scaling = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT  # within a level of exact, and fast

        def to_rgb(frame: "VideoFrame") -> Picture:
            shown = reformatter.reformat(frame, *self._size, "rgb24", interpolation=scaling, threads=1)
            return _turned(shown.to_ndarray().astype(np.uint8, copy=False), self._turn)

        return to_rgb

    def _is_plain(self, frame: "VideoFrame") -> bool:
        """Return whether a frame is in YUV as we have it, and needs no turn nor scaling."""
        even = frame.width % 2 == frame.height % 2 == 0
        upright = self._turn == _UPRIGHT and (frame.width, frame.height) == self._size
        colors = frame.colorspace in _BT_601 and frame.color_range in _NARROW
        return even and upright and colors and frame.format.name == "yuv420p"

    def _shown(self) -> Iterator["VideoFrame"]:
        """Decode the frames that are shown."""
        index = 0
        with _opened(self.path) as container:
            stream = container.streams.video[self._stream]
            frames = self._decode(self._packets(container, stream), stream)
            for frame in _deinterlaced(frames, stream.time_base) if self._interlaced else frames:
                yield frame
                index += 1
                if index == self.count:
                    return
        raise UserError(f"{self.frame_name(index)} cannot be read, the file is damaged or has changed")

    def frame_name(self, index: int) -> str:
        return f"frame {index} of {self.name}"

    def _choose(self, container: "InputContainer") -> "VideoStream":
        """Return the stream of the video: no cover picture, and more than one frame."""
        from av.stream import Disposition

        still = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
        streams = [stream for stream in container.streams.video if stream.codec_context is not None]
        moving = [stream for stream in streams if not stream.disposition & still and stream.frames != 1] or streams
        if len(moving) > 1:
            counts = dict.fromkeys((stream.index for stream in moving), 0)
            with _opened(self.path) as again, contextlib.suppress(*_errors()):
                for packet in again.demux([again.streams[index] for index in counts]):
                    counts[packet.stream_index] += packet.size > 0
                    if counts[moving[0].index] > 1:
                        break
            moving = [stream for stream in moving if counts[stream.index] > 1] or moving
        if not moving:
            kinds = sorted({stream.type for stream in container.streams})
            found = f"only {' and '.join(kinds)}" if kinds else "nothing that can be played"
            raise UserError(f"{self.name} holds no video ({found}), give a video file")
        return moving[0]

    def _packets(self, container: "InputContainer", stream: "VideoStream") -> Iterator[Any]:
        """Yield the packets of a stream; the last is None, also if the file breaks off."""
        self._broke_off = False
        stream.thread_type = "AUTO" if stream.width * stream.height > _ONE_THREAD else "NONE"
        try:
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
        except _errors():
            self._broke_off = True
        yield None

    def _decode(self, packets: Iterator[Any], stream: "VideoStream") -> Iterator["VideoFrame"]:
        self._broken = 0
        errors = _errors()
        for packet in packets:
            try:
                frames = stream.codec_context.decode(packet)
            except errors:
                self._broken += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._broken += 1
                else:
                    yield frame

    def _cut(self, stream: "VideoStream") -> bool:
        """Return whether the file ends before the data that its own index or header promises."""
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            promised = _promised_size(file.read(4096))
        return self._broke_off or promised > size or any(item.pos + item.size > size for item in stream.index_entries)

    def _notes(self, announced: int) -> tuple[str, ...]:
        if self._broken:
            return (f"{self._broken} frames of {self.name} cannot be decoded, they are left out",)
        if announced - self.count > max(2, 0.05 * announced):
            return (f"{self.name} announces {announced} frames, {self.count} are shown; the file itself is complete",)
        return ()


def _errors() -> tuple[type[Exception], ...]:
    """Return what FFmpeg raises for files that it cannot read."""
    from av import FFmpegError

    return FFmpegError, OSError, ValueError


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["InputContainer"]:
    """Open a file, whatever its name is, and nothing else: no playlist, no address.

    Raises:
        UserError: PyAV is missing, or the file cannot be read as video.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("reading video files needs PyAV: pip install 'mol-fast[faces]'") from error
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_LISTS):
            raise UserError(f"{path} is a list of other files, give the video itself")
    try:
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except _errors() as error:
        raise UserError(f"{path} cannot be read as video, check that it is a complete video file") from error
    with container:
        yield container


def _deinterlaced(frames: Iterator["VideoFrame"], unit: Fraction | None) -> Iterator["VideoFrame"]:
    """Deinterlace the interlaced ones of frames, one frame for each."""
    from av.filter import Graph

    graph = Graph()
    kind = None
    for frame in frames:
        if kind != (frame.width, frame.height, frame.format.name):  # the first frame, or another size
            if kind is not None:
                graph.vpush(None)
                yield from _pulled(graph)
                graph = Graph()
            kind = frame.width, frame.height, frame.format.name
            source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=unit)
            filter = graph.add("bwdif", "mode=send_frame:deint=interlaced")
            graph.link_nodes(source, filter, graph.add("buffersink")).configure()
        graph.vpush(frame)
        yield from _pulled(graph)
    if kind is not None:
        graph.vpush(None)
        yield from _pulled(graph)


def _pulled(graph: Any) -> Iterator["VideoFrame"]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):  # it needs more frames, or has given all
            return
        yield frame


def _promised_size(head: bytes) -> int:
    """Return the size in bytes that the head of an AVI or Matroska file states; 0 if it states none."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return int.from_bytes(head[4:8], "little") + 8
    place = head.find(b"\x18\x53\x80\x67") + 4 if head[:4] == b"\x1a\x45\xdf\xa3" else 0  # ID of the segment
    if place < 4 or place >= len(head) or not head[place]:
        return 0
    length = 9 - head[place].bit_length()  # of the number, by its leading zeros
    number = int.from_bytes(head[place : place + length], "big") - (1 << 7 * length)
    return 0 if number == (1 << 7 * length) - 1 else place + length + number  # all ones: not known


def _square(width: int, height: int, pixel: Fraction) -> tuple[int, int]:
    """Return the size of a frame with square pixels: the side with too few pixels grows."""
    if not Fraction(1, _FLATTEST) <= pixel <= _FLATTEST:
        return width, height
    return (round(width * pixel), height) if pixel > 1 else (width, round(height / pixel))


def _turn(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """Return the display matrix (a, b, c, d) of a frame, each -1, 0 or 1: right is shown as (a, b), down as (c, d)."""
    side_data: Any = frame.side_data
    data = next((item for item in side_data if item.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return _UPRIGHT
    numbers = struct.unpack("=9i", bytes(data)[:36])
    a, b, c, d = (number / 65536 for number in (numbers[0], numbers[1], numbers[3], numbers[4]))
    length = math.sqrt(abs(a * d - b * c)) or 1.0
    turn = round(a / length), round(b / length), round(c / length), round(d / length)
    return turn if turn[0] * turn[3] - turn[1] * turn[2] in (-1, 1) else _UPRIGHT


def _turned(picture: Picture, turn: tuple[int, int, int, int]) -> Picture:
    """Turn and mirror a picture by its display matrix."""
    if turn == _UPRIGHT:
        return picture
    a, b, c, d = turn
    if a == 0:
        picture = picture.transpose(1, 0, 2)
    flip_columns, flip_rows = (a or c) < 0, (d or b) < 0
    return np.ascontiguousarray(picture[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def _brightness(frame: "VideoFrame") -> Yuv:
    """Return the brightness (H, W) of a frame in YUV. It shares the memory of the frame."""
    plane: Any = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _time(frame: "VideoFrame", unit: Fraction | None) -> float | None:
    stamp = frame.dts if frame.pts is None else frame.pts
    return None if stamp is None or unit is None else float(stamp * unit)


def _filled(stamps: list[float | None], begin: float | None) -> Times | None:
    """Return ascending times from the beginning of the file. Missing ones lie between their neighbours.

    Returns None if fewer than two frames have a time.
    """
    known = [i for i, stamp in enumerate(stamps) if stamp is not None]
    if len(known) < 2:
        return None
    values = np.array([stamps[i] for i in known], dtype=np.float64)
    first = values.min() if begin is None else min(begin, float(values.min()))
    ascending = np.maximum.accumulate(values - first)
    return None if ascending[-1] == ascending[0] else np.interp(np.arange(len(stamps)), known, ascending)


def _rate(times: Times | None, stored: Fraction | None) -> float | None:
    """Return the mean rate; the stored one, which is exact, if it agrees."""
    if times is None:
        return None
    mean = (len(times) - 1) / float(times[-1] - times[0])
    return float(stored) if stored and abs(float(stored) / mean - 1) < _RATE_TOLERANCE else mean
