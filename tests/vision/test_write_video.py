"""Written video files: what a browser needs, the sound, and what happens when the disk is full."""

import resource
import subprocess
import sys
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread

import av
import numpy as np
import pytest
from harness.browser import headless, needs_chromium

from mol_fast.prediction.part import Part, sound_of
from mol_fast.utils.errors import UserError
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.write_video import Sound, VideoWriter
from mol_fast.vision.yuv import to_yuv


def pictures(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames of one grey each, the next one brighter by 4."""
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    frames[:] = 20 + 4 * np.arange(count)[:, None, None, None]
    return frames


def write(path: Path, frames: np.ndarray, fps: float | None = 25, sound: Sound | None = None) -> Path:
    with VideoWriter(path, (frames.shape[2], frames.shape[1]), fps, sound) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def with_sound(path: Path, codec: str, rate: int = 48_000) -> Path:
    """A video of 2 seconds that sounds from 0.5 to 1 s only."""
    with av.open(path, "w") as file:
        video = file.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = file.add_stream(codec, rate=rate, layout="mono")
        for picture in pictures(50):
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        time = np.arange(2 * rate) / rate
        wave = np.where((time >= 0.5) & (time < 1), 12_000 * np.sin(2 * np.pi * 440 * time), 0).astype(np.int16)
        for start in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            file.mux(audio.encode(frame))
        file.mux(video.encode(None))
        file.mux(audio.encode(None))
    return path


def heard(path: Path) -> tuple[str, float, float, float]:
    """The codec of the sound, its end, and when it is loud, in seconds of the video."""
    times, levels = [], []
    with av.open(path) as file:
        stream = file.streams.audio[0]
        codec = stream.codec_context.name.removesuffix("float")
        for frame in file.decode(stream):
            samples = frame.to_ndarray()[0]
            levels.append(np.abs(samples.astype(float)) / (1 if samples.dtype.kind == "f" else np.iinfo("i2").max))
            times.append(frame.time + np.arange(len(samples)) / frame.sample_rate)
    time, level = np.concatenate(times), np.concatenate(levels)
    loud = time[level > 0.1]
    return codec, time[-1], loud[0], loud[-1]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_colours_are_those_of_ffmpeg(height: int, width: int) -> None:
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([4 * columns, 5 * rows, 128 + 60 * np.sin((rows + columns) / 20)], axis=-1).astype(np.uint8)
    expected = av.VideoFrame.from_ndarray(picture[: height // 2 * 2, : width // 2 * 2].copy(), format="rgb24")
    expected = expected.reformat(format="yuv420p")
    ours = av.VideoFrame.from_ndarray(to_yuv(picture), format="yuv420p")
    for plane in range(3):
        one, other = (np.frombuffer(frame.planes[plane], np.uint8).astype(int) for frame in (ours, expected))
        one = one.reshape(-1, ours.planes[plane].line_size)
        other = other.reshape(-1, expected.planes[plane].line_size)
        h, w = (height // 2 * 2, width // 2 * 2) if plane == 0 else (height // 2, width // 2)
        assert np.abs(one[:h, :w] - other[:h, :w]).max() <= (1 if plane == 0 else 3)


def test_file_is_what_browsers_play(tmp_path):
    path = write(tmp_path / "a.mp4", pictures(12))
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(path) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, stream.average_rate, stream.duration * stream.time_base) == (12, 25, Fraction(12, 25))
        context = stream.codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (5, 1, 1, 1)
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert np.abs(np.stack(frames).astype(int) - pictures(12)).mean() < 4
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("fps", [1 / 3, 30000 / 1001, 123.456789, 200.123456, 1000])
def test_any_rate_can_be_written(tmp_path, fps):
    source = VideoFile(write(tmp_path / "a.mp4", pictures(3), fps))
    assert (source.count, source.fps) == (3, pytest.approx(fps, rel=5e-3))


def test_times_of_frames_are_kept(tmp_path):
    times = [0, 0.04, 0.5, 0.52, 2]
    with VideoWriter(tmp_path / "a.mp4", (64, 48), 25) as writer:
        for picture, time in zip(pictures(5), times, strict=True):
            writer.write(picture, time)
    with av.open(tmp_path / "a.mp4") as file:
        assert [frame.time for frame in file.decode(video=0)] == pytest.approx(times, abs=1e-4)


def test_odd_sides_grow_by_a_pixel(tmp_path):
    picture = next(iter(VideoFile(write(tmp_path / "a.mp4", pictures(3, 47, 65)))))
    assert picture.shape == (48, 66, 3)
    assert np.abs(picture.astype(int) - 20).max() < 6


@pytest.mark.parametrize(
    ("name", "encoder", "codec"),
    [
        ("a.mp4", "aac", "aac"),
        ("a.mkv", "libmp3lame", "mp3"),
        ("a.mkv", "libopus", "opus"),
        ("a.mkv", "flac", "flac"),
        ("a.ts", "aac", "aac"),
        ("a.avi", "pcm_s16le", "aac"),
        ("a.mkv", "ac3", "aac"),
    ],
)
def test_sound_is_kept_in_time(tmp_path, name, encoder, codec):
    source = with_sound(tmp_path / name, encoder)
    found, end, first, last = heard(write(tmp_path / "b.mp4", pictures(50), 25, Sound(source)))
    assert found == codec
    assert (end, first, last) == (pytest.approx(2, abs=0.05), pytest.approx(0.5, abs=0.05), pytest.approx(1, abs=0.05))
    part = Sound(source, 0.4, 1.4)
    found, end, first, last = heard(write(tmp_path / "c.mp4", pictures(25), 25, part))
    assert found == codec
    assert (end, first, last) == (
        pytest.approx(1, abs=0.07),
        pytest.approx(0.1, abs=0.05),
        pytest.approx(0.6, abs=0.05),
    )


@pytest.mark.parametrize("encoder", ["aac", "mp2"])
def test_sound_of_joined_recordings_follows_their_pictures(tmp_path, encoder):
    recording = with_sound(tmp_path / "a.ts", encoder).read_bytes()
    (tmp_path / "aa.ts").write_bytes(recording + recording)
    source = VideoFile(tmp_path / "aa.ts")
    assert source.times[-1] == pytest.approx(99 / 25, abs=0.05)
    _, end, first, last = heard(write(tmp_path / "b.mp4", pictures(50), 12.5, sound_of(source)))
    assert (end, first, last) == (pytest.approx(4, abs=0.1), pytest.approx(0.5, abs=0.05), pytest.approx(3, abs=0.1))
    part = Part(source, 2.4, 3.4)
    _, end, first, last = heard(write(tmp_path / "c.mp4", pictures(25), 25, sound_of(part)))
    assert (end, first, last) == (pytest.approx(1, abs=0.1), pytest.approx(0.1, abs=0.1), pytest.approx(0.6, abs=0.1))


def test_sound_is_copied_where_it_can_be(tmp_path):
    def packets(path: Path) -> list[bytes]:
        with av.open(path) as file:
            return [bytes(packet) for packet in file.demux(audio=0) if packet.size]

    source = with_sound(tmp_path / "a.mp4", "aac")
    copied = packets(write(tmp_path / "b.mp4", pictures(50), 25, Sound(source)))
    assert len(copied) > 90
    assert set(copied) <= set(packets(source))


def test_no_sound_is_no_error(tmp_path):
    silent = write(tmp_path / "a.mp4", pictures(3))
    (tmp_path / "text.mp4").write_text("no video")
    for number, path in enumerate((silent, tmp_path / "text.mp4", tmp_path / "missing.mp4")):
        with av.open(write(tmp_path / f"{number}.mp4", pictures(3), 25, Sound(path))) as file:
            assert [stream.type for stream in file.streams] == ["video"]


def test_sound_that_breaks_off_does_not_stop_the_video(tmp_path):
    source = with_sound(tmp_path / "a.ts", "aac")
    data = bytearray(source.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    source.write_bytes(data)
    assert VideoFile(write(tmp_path / "b.mp4", pictures(50), 25, Sound(source))).count == 50


def test_name_with_a_colon_is_a_path(tmp_path):
    source = with_sound(tmp_path / "10:30.mp4", "aac")
    assert heard(write(tmp_path / "9:15.mp4", pictures(50), 25, Sound(source)))[0] == "aac"


def test_old_file_stays_after_an_error(tmp_path):
    def fail_while_writing() -> None:
        with VideoWriter(tmp_path / "a.mp4", (64, 48)) as writer:
            writer.write(pictures(1)[0])
            raise RuntimeError("stop")

    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(RuntimeError, match="stop"):
        fail_while_writing()
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]


def test_full_disk_is_one_sentence(tmp_path):
    """A limit on the size of files stands for the disk."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 240, 320, 3), dtype=np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"a\.mp4 cannot be written \(file too large\): free space") as caught:
            write(tmp_path / "a.mp4", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_writer_notices_that_frames_are_missing(tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "a.mp4", (64, 48))
    writer.write(pictures(1)[0])
    monkeypatch.setattr(writer, "_count", 5)
    with pytest.raises(UserError, match=r"a\.mp4 could not be written, 1 of 5 frames"), writer:
        pass
    assert not list(tmp_path.iterdir())


def test_writer_refuses(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"a\.mp4 cannot be written \(no such file or directory\)"):
        VideoWriter(tmp_path / "missing" / "a.mp4", (64, 48))
    with pytest.raises(ValueError, match="picture"), VideoWriter(tmp_path / "a.mp4", (64, 48)) as writer:
        writer.write(pictures(1, 40, 64)[0])

    def without(name: str, *_: object, **options: object) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    class Container:
        add_stream = staticmethod(without)
        close = staticmethod(lambda: None)

    monkeypatch.setattr(av, "open", lambda *_, **__: Container)
    with pytest.raises(UserError, match=r"a\.mp4 cannot be written, this PyAV has no H\.264 encoder"):
        VideoWriter(tmp_path / "a.mp4", (64, 48))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"needs PyAV: pip install 'mol-fast\[faces\]'"):
        VideoWriter(tmp_path / "a.mp4", (64, 48))
    assert not list(tmp_path.iterdir())


PAGE = """<body><script>
const video = document.createElement("video")
video.muted = true
video.onended = () => fetch(`played-${video.videoWidth}x${video.videoHeight}`)
video.onerror = () => fetch(`refused-${encodeURIComponent(video.error.message)}`)
video.src = "a.mp4"
video.play()
</script>"""


@needs_chromium
def test_chromium_plays_it(tmp_path):
    asked: Queue[str] = Queue()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.put(self.path)

    source = with_sound(tmp_path / "source.mp4", "aac")
    write(tmp_path / "a.mp4", pictures(10), 25, Sound(source, 0, 0.4))
    (tmp_path / "page.html").write_text(PAGE)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/page.html"
        command = [*headless(tmp_path / "user"), "--remote-debugging-port=0", address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                answer = ""
                while not answer.startswith(("/played", "/refused")):
                    answer = asked.get(timeout=60)
            finally:
                browser.terminate()
                server.shutdown()
    assert answer == "/played-64x48"
