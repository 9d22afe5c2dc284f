"""Read video files with PyAV (FFmpeg): the pixels of the displayed picture, and the time stamp of every frame."""

import contextlib
import os
from collections.abc import Collection, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mol_fast.utils.errors import UserError
from mol_fast.vision.displayed import Display, Stored, tell_colors
from mol_fast.vision.time_stamps import frame_times, mean_rate, time_of
from mol_fast.vision.video import Picture, Times, check_picture_size, even_times, grey
from mol_fast.vision.yuv import Yuv, to_grey, to_yuv

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_MOST_BROKEN = 0.25  # largest share of packets that cannot be decoded; a file with more is refused
_ONE_THREAD = 1_000_000  # pixels; smaller frames are decoded faster than anything else is done with them
_LISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")  # how files begin that name other files or addresses


class VideoFile:
    """The frames of a video file as a player shows them.

    Frames are turned upright, have square pixels, are deinterlaced, and are cut by the edit list of the file. They are
    scaled to 8 bits. The stream is the first that is no cover picture and has more than one frame. The constructor
    decodes the file once to find the time stamps. Frames that cannot be decoded are left out, with a note.

    Args:
        path: the file.
        fps: frames per second; replaces the time stamps.

    Attributes:
        joined: the time stamps begin anew somewhere, as in recordings that were joined.

    Raises:
        UserError: the file cannot be read as video, is truncated, or much of it cannot be decoded; PyAV is missing.
    """

    aligned = False

    def __init__(self, path: str | os.PathLike[str], fps: float | None = None) -> None:
        self.path = Path(path)
        self.name = str(path)
        self._interlaced = False
        self._broken = 0
        other_shape = False
        with _opened(self.path) as container:
            stream = self._choose(container)
            stream.codec_context.options = {"skip_loop_filter": "all"}  # only times are read here
            self._stream = container.streams.video.index(stream)
            check_picture_size(self.name, stream.codec_context.width, stream.codec_context.height)
            announced, stored_rate = stream.frames, stream.average_rate
            begin = None if container.start_time is None else container.start_time / 1_000_000
            self._pixel = stream.sample_aspect_ratio or Fraction(1)
            self._coded_pixel: Fraction | None = None  # as the codec tells it; the file may tell another
            stamps: list[float | None] = []
            for frame in self._decode(self._packets(container, stream), stream):
                if not stamps:
                    self._coded_pixel = stream.codec_context.sample_aspect_ratio
                    self._display = Display(self._stored(frame, stream))
                stored = self._stored(frame, stream)
                self._interlaced = self._interlaced or frame.interlaced_frame
                other_shape = other_shape or not self._display.fits(stored)
                stamps.append(time_of(frame, stream.time_base))
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
        check_picture_size(self.name, *self._display.size)
        times, anew = frame_times(stamps, begin)
        self.fps = fps or mean_rate(times, stored_rate)
        self.times: Times | None = times if fps is None else even_times(self.count, fps)
        self.joined = anew > 0
        self.notes = (*self._notes(announced), *_notes_on_joined(self.name, other_shape, 0 if fps else anew))

    def __iter__(self) -> Iterator[Picture]:
        return map(self._display.converter(), self._shown())

    def pick(self, indices: Collection[int]) -> Iterator[tuple[int, Picture]]:
        """Yield the frames with these indices, ascending, each with its index; the others are not converted."""
        to_rgb, last = self._display.converter(), max(indices, default=-1)
        for index, stored in enumerate(islice(self._shown(), last + 1)):
            if index in indices:
                yield index, to_rgb(stored)

    def in_yuv(self) -> Iterator[Yuv]:
        """Yield the frames in YUV; they are converted only where the file holds others."""
        display, to_rgb = self._display, self._display.converter()
        for stored in self._shown():
            plain = display.is_plain(stored)
            yield np.asarray(stored.frame.to_ndarray(), np.uint8) if plain else to_yuv(to_rgb(stored))

    def in_grey(self) -> Iterator[Picture]:
        """Yield the frames in grey. Those that `in_yuv` does not convert are not converted to RGB first."""
        display, to_rgb = self._display, self._display.converter()
        for stored in self._shown():
            plain = display.is_plain(stored)
            yield to_grey(_brightness(stored.frame)) if plain else grey(to_rgb(stored))

    def _shown(self) -> Iterator[Stored]:
        """Decode the frames that are shown."""
        index = 0
        with _opened(self.path) as container:
            stream = container.streams.video[self._stream]
            frames = self._decode(self._packets(container, stream), stream)
            for frame in _deinterlaced(frames, stream.time_base) if self._interlaced else frames:
                yield self._stored(frame, stream)
                index += 1
                if index == self.count:
                    return
        raise UserError(f"{self.frame_name(index)} cannot be read, the file is damaged or has changed")

    def _stored(self, frame: "VideoFrame", stream: "VideoStream") -> Stored:
        """Return a frame that was just decoded, with the shape of its pixels, which may change within a stream."""
        now = stream.codec_context.sample_aspect_ratio
        return Stored(frame, self._pixel if now is None or now == self._coded_pixel else now)

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
                    tell_colors(frame)
                    yield frame

    def _cut(self, stream: "VideoStream") -> bool:
        """Return whether the file ends before the data that its own index or header promises."""
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            promised = _promised_size(file.read(4096))
        return self._broke_off or promised > size or any(item.pos + item.size > size for item in stream.index_entries)

    def _notes(self, announced: int) -> tuple[str, ...]:
        if self._broken:
            frames, they = ("frame", "it is") if self._broken == 1 else ("frames", "they are")
            return (f"{self._broken} {frames} of {self.name} cannot be decoded, {they} left out",)
        if announced - self.count > max(2, 0.05 * announced):
            return (f"{self.name} announces {announced} frames, {self.count} are shown; the file itself is complete",)
        return ()


def _notes_on_joined(name: str, other_shape: bool, anew: int) -> tuple[str, ...]:
    """Return what should be known about a file that seems to be joined from several recordings."""
    notes = []
    if anew:
        times = "once" if anew == 1 else f"{anew} times"
        notes.append(f"the time stamps of {name} begin anew {times}: its times go on from the frame before")
    if other_shape:
        notes.append(f"some frames of {name} have another shape than the first: they are shown with borders")
    return tuple(notes)


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


def _brightness(frame: "VideoFrame") -> Picture:
    """Return the brightness (H, W) of a frame in YUV. It shares the memory of the frame."""
    plane: Any = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
