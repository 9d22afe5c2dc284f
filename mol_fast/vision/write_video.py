"""Write video files with PyAV (FFmpeg): H.264 in MP4, as browsers play it, with the sound of another file."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mol_fast.utils.errors import UserError
from mol_fast.vision.video import Picture
from mol_fast.vision.yuv import Yuv, planes, size_of, to_yuv

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

_PLAYBACK_FPS = 25.0  # default frame rate of written video
_CLOCK = 90_000  # ticks in a second; the usual rates are whole numbers of ticks
_COPIED = frozenset(("aac", "flac", "mp3", "opus"))  # codecs of sound that browsers play in MP4
_PRESET = "ultrafast"  # of x264: two thirds of the time of superfast, for 7 % (noise) to 65 % (a still wall) more bytes
_THREADS = 2  # of the encoder; more need more memory and would take the cores of those who make the pictures
_SOUND_RATE = 48_000  # samples per second of encoded sound
_BACK = 0.5  # seconds; where the time stamps of sound go back by more, they begin anew


@dataclass(frozen=True)
class Sound:
    """A part of the sound of a video file, in seconds from the beginning of the file.

    Attributes:
        path: the file.
        begin, end: the part.
        joined: the file may be joined from recordings, each with its own time stamps, which follow each other.
    """

    path: Path
    begin: float = 0.0
    end: float = float("inf")
    joined: bool = False


class VideoWriter:
    """Writer of an MP4 file with H.264, yuv420p. The complete file appears when the `with` block ends without an error.

    Args:
        path: file to write; its folder must exist.
        size: (width, height) of the pictures in pixels. An odd side grows by a pixel, which repeats the last one.
        fps: frames per second. Default: 25.
        sound: sound to add. It is copied if browsers play its codec in MP4, and encoded as AAC otherwise. A file
            without sound, or with sound that cannot be decoded, gives a silent video.
        crf: quality of H.264, from 0 (no loss) to 51. At 22 the eye sees no loss.

    Raises:
        UserError: PyAV or its H.264 encoder is missing; the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        fps: float | None = None,
        sound: Sound | None = None,
        crf: int = 22,
    ) -> None:
        av = _pyav()
        self.path = Path(path)
        self._part = self.path.with_name(f".write-{secrets.token_hex(8)}.mp4")
        self._size = size
        self._fps = fps or _PLAYBACK_FPS
        self._count = 0
        self._tick = -1  # of the last frame
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._errors_named())
            stack.callback(self._part.unlink, missing_ok=True)
            options = {"movflags": "+faststart"}  # the index comes first: a browser plays while it loads
            self._container: OutputContainer = av.open(f"file:{self._part}", "w", container_options=options)
            stack.callback(self._container.close)
            coding = {"preset": _PRESET, "crf": str(crf)}
            stream = self._container.add_stream("libx264", rate=_rate(self._fps), options=coding)
            stream.codec_context.thread_type = "FRAME"  # slices of a frame cost more
            stream.codec_context.thread_count = _THREADS
            stream.width, stream.height = (side + side % 2 for side in size)
            stream.pix_fmt = "yuv420p"
            _tell_colours(stream.codec_context)
            stream.time_base = stream.codec_context.time_base = Fraction(1, _CLOCK)
            self._stream = stream
            self._sound = _SoundTrack(self._container, sound) if sound else None
            self._container.start_encoding()
            stack.pop_all()

    def write(self, picture: Picture, time: float | None = None) -> None:
        """Add a frame.

        Args:
            picture: RGB (H, W, 3) of the size of the video.
            time: when it is shown, in seconds from the first frame, later than the frame before. Default: by the rate.

        Raises:
            ValueError: the picture has another size or is not RGB.
            UserError: the disk is full, or the file cannot be written.
        """
        width, height = self._size
        if picture.shape != (height, width, 3):
            raise ValueError(f"picture must be ({height}, {width}, 3), got {picture.shape}")
        self.write_yuv(to_yuv(picture), time)

    def write_yuv(self, picture: Yuv, time: float | None = None) -> None:
        """Add a frame in YUV, see `write`."""
        from av import VideoFrame

        time = self._count / self._fps if time is None else time
        self._tick = max(self._tick + 1, round(time * _CLOCK))
        frame = VideoFrame(*size_of(picture), "yuv420p")
        for plane, values in zip(frame.planes, planes(picture), strict=True):
            height, width = values.shape
            memory: Any = plane
            np.frombuffer(memory, np.uint8).reshape(-1, plane.line_size)[:height, :width] = values
        frame.pts, frame.time_base = self._tick, Fraction(1, _CLOCK)
        frame.duration = max(1, round(_CLOCK / self._fps))
        with self._errors_named():
            self._container.mux(self._stream.encode(frame))
            if self._sound:
                self._sound.mux_until(time)
        self._count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with self._errors_named():
                    self._finish()
        finally:
            if self._sound:
                self._sound.close()
            with contextlib.suppress(OSError, ValueError):  # of the file that is dropped
                self._container.close()
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        if self._sound:
            self._sound.mux_until(float("inf"))
        self._container.close()
        written = _count_frames(self._part)
        if written != self._count:
            raise UserError(
                f"{self.path} could not be written, {written} of {self._count} frames arrived; is the disk full?"
            )
        with open(self._part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self._part, self.path)

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn errors of FFmpeg and of the disk into one sentence that names the file."""
        from av.codec.codec import UnknownCodecError
        from av.error import FFmpegError

        try:
            yield
        except UnknownCodecError:
            raise UserError(
                f"{self.path} cannot be written, this PyAV has no H.264 encoder (libx264): "
                "pip install --force-reinstall av, or give --no-video"
            ) from None
        except (FFmpegError, OSError) as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"{self.path} cannot be written ({reason}): free space, or choose another folder"
            ) from error


def _tell_colours(context: Any) -> None:
    """Write into the file what `to_yuv` makes, or players guess it from the height of the video."""
    context.colorspace, context.color_range = 5, 1  # the matrix of BT.601, brightness from 16 to 235
    context.color_primaries = context.color_trc = 1  # BT.709


class _SoundTrack:
    """Sound that is muxed beside the video, as far as the video is written."""

    def __init__(self, output: "OutputContainer", sound: Sound) -> None:
        self._output = output
        self._sound = sound
        self._input: InputContainer | None = None
        self._packets: Iterator[tuple[float, Packet]] = iter(())
        self._next: tuple[float, Packet] | None = None
        av = _pyav()
        with contextlib.suppress(OSError, ValueError):  # FFmpeg's errors: no sound can be read
            self._input = av.open(f"file:{sound.path}", options={"protocol_whitelist": "file"})
            stream = next((item for item in self._input.streams.audio if item.codec_context is not None), None)
            if stream is None:
                return
            self._origin = (self._input.start_time or 0) / 1_000_000
            name = stream.codec_context.name.partition("float")[0]
            # AAC of a transport stream has no header of its own, MP4 needs one
            if name in _COPIED and (name != "aac" or stream.codec_context.extradata):
                self._packets = self._copied(stream, output.add_stream_from_template(stream))
            elif stream.codec_context.sample_rate:
                layout = "mono" if stream.codec_context.channels == 1 else "stereo"
                self._packets = self._encoded(stream, output.add_stream("aac", rate=_SOUND_RATE, layout=layout))

    def mux_until(self, time: float) -> None:
        """Mux packets that begin at or before `time`, in seconds of the written video."""
        while (following := self._next or next(self._packets, None)) is not None:
            self._next = following
            if following[0] > time:
                return
            self._output.mux(following[1])
            self._next = None

    def close(self) -> None:
        if self._input is not None:
            self._input.close()

    def _copied(self, stream: "AudioStream", track: Any) -> Iterator[tuple[float, "Packet"]]:
        last = -1
        for time, packet in self._read(stream):
            packet.pts = packet.dts = round(time / packet.time_base)
            packet.stream = track
            if packet.pts > last:  # MP4 holds no times that go back
                last = packet.pts
                yield time, packet

    def _encoded(self, stream: "AudioStream", track: "AudioStream") -> Iterator[tuple[float, "Packet"]]:
        time, last = 0.0, -1
        for time, packet in self._read(stream):
            with contextlib.suppress(OSError, ValueError):  # a damaged packet is left out
                for frame in stream.codec_context.decode(packet):
                    if frame.pts is not None and frame.time_base is not None:
                        time_in_part = self._shown(float(frame.pts * frame.time_base))
                        frame.pts = round(time_in_part / frame.time_base)
                        if frame.pts <= last:
                            continue
                        last = frame.pts
                    for encoded in track.encode(frame):
                        yield time, encoded
        for encoded in track.encode(None):
            yield time, encoded

    def _read(self, stream: "AudioStream") -> Iterator[tuple[float, "Packet"]]:
        """Yield the packets of the part, each with its time in the written video."""
        assert self._input is not None
        with contextlib.suppress(OSError, ValueError):  # FFmpeg's errors: the file breaks off, and its sound, too
            if self._sound.begin > 0 and not self._sound.joined:
                self._input.seek(int((self._origin + self._sound.begin) * 1_000_000))
            shift, end = 0, -np.inf  # ticks; seconds, where the packet before ends
            for packet in self._input.demux(stream):
                if packet.pts is None or packet.time_base is None or not packet.size:
                    continue
                time = self._shown(float((packet.pts + shift) * packet.time_base))
                if self._sound.joined and time < end - _BACK:
                    shift += round((end - time) / packet.time_base)
                    time = end
                packet.pts += shift
                packet.dts = packet.pts
                end = max(end, time + float((packet.duration or 0) * packet.time_base))
                if time >= self._sound.end - self._sound.begin:
                    return
                if time >= 0:
                    yield time, packet

    def _shown(self, time: float) -> float:
        """Return when a time stamp of the source, in seconds, is played in the written video."""
        return time - self._origin - self._sound.begin


def _rate(fps: float) -> Fraction:
    """Return a rate as FFmpeg stores it, with whole numbers that are not too large."""
    return max(Fraction(min(fps, _CLOCK)).limit_denominator(1001), Fraction(1, 1001))


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise UserError("writing video files needs PyAV: pip install 'mol-fast[faces]', or give --no-video") from error
    return av


def _count_frames(path: Path) -> int:
    """Return the number of frames that are stored in a video file; 0 if it cannot be read."""
    with contextlib.suppress(OSError, ValueError), _pyav().open(f"file:{path}") as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    return 0
