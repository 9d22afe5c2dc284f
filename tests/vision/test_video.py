"""Frames from files and folders, and video to files."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mol_fast.data import write_video
from mol_fast.prediction.sources import open_source
from mol_fast.utils.errors import UserError
from mol_fast.vision import video
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.video import FrameArray, ImageFolder, grey, read_image, rgb
from mol_fast.vision.write_video import VideoWriter


def colours(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames of one colour each, none like another."""
    steps = np.linspace(0, 200, count)
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = (x[:, None, None] for x in (steps + 40, 240 - steps, steps / 2))
    return frames


def write(path: Path, frames: np.ndarray, fps: float = 25) -> Path:
    with VideoWriter(path, (frames.shape[2], frames.shape[1]), fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_avi(path: Path, count: int) -> Path:
    noise = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(count):
        writer.write(noise.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


def test_video_comes_back(tmp_path):
    frames = colours(12)
    source = open_source(write(tmp_path / "a.mp4", frames, 30))
    assert (source.count, source.fps, source.aligned) == (12, 30, False)
    for _ in range(2):  # as often as one likes
        read = np.stack(list(source))
        assert read.shape == frames.shape
        assert np.abs(read.astype(int) - frames).mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_given_rate_replaces_that_of_the_file(tmp_path):
    assert open_source(write(tmp_path / "a.mp4", colours(3)), fps=200).fps == 200


@pytest.mark.parametrize("content", [b"", b"no video" * 100], ids=["empty", "text"])
def test_unreadable_video_is_named(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad.mp4"):
        open_source(path)


def test_truncated_mp4_is_named(tmp_path):
    path = write(tmp_path / "cut.mp4", colours(30))
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(UserError, match=r"cut.mp4"):
        open_source(path)


def test_truncated_avi_is_named_with_what_is_left(tmp_path):
    path = write_avi(tmp_path / "cut.avi", 40)
    assert open_source(path).count == 40
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"cut.avi ends after \d+ of 40 frames"):
        open_source(path)


def test_video_that_changes_while_it_is_read(tmp_path):
    path = write_avi(tmp_path / "a.avi", 20)
    source = VideoFile(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"frame \d+ of .*a.avi"):
        list(source)


def test_missing_path():
    with pytest.raises(UserError, match=r"nowhere.mp4 does not exist"):
        open_source("nowhere.mp4")


def test_folder_is_sorted_by_number_and_junk_ignored(tmp_path):
    for number in (1, 2, 9, 10, 46, 100):
        cv2.imwrite(str(tmp_path / f"reg_img{number}.png"), np.full((6, 8, 3), number, dtype=np.uint8))
    for junk in ("Thumbs.db", "reg_img3.lnk", "._reg_img4.png", "notes.txt"):
        (tmp_path / junk).write_bytes(b"junk")
    (tmp_path / "reg_img5.png").mkdir()
    source = open_source(tmp_path, fps=200)
    assert (source.count, source.fps, source.aligned) == (6, 200, False)
    assert [frame[0, 0, 0] for frame in source] == [1, 2, 9, 10, 46, 100]
    assert source.frame_name(2).endswith("reg_img9.png")


def test_colours_of_an_image(tmp_path):
    path = tmp_path / "blue.png"
    cv2.imwrite(str(path), np.full((4, 4, 3), (255, 0, 0), dtype=np.uint8))  # OpenCV writes blue first
    assert read_image(path)[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("keep", [0, 0.5], ids=["empty", "half"])
def test_unreadable_image_is_named(tmp_path, keep):
    for number in range(9):
        cv2.imwrite(str(tmp_path / f"img{number}.jpg"), colours(1)[0])
    bad = tmp_path / "img7.jpg"
    os.truncate(bad, int(keep * bad.stat().st_size))
    with pytest.raises(UserError, match=r"img7.jpg cannot be read"):
        list(open_source(tmp_path))


def test_mixed_sizes_are_named(tmp_path):
    for number in range(9):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), colours(1, 48, 60 if number == 4 else 64)[0])
    with pytest.raises(UserError, match=r"img4.png is 60 x 48 pixels where img0.png is 64 x 48"):
        list(open_source(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [("notes.txt", "holds no images"), ("clip1/", "holds folders but no images"), ("set.json", "is a prepared set")],
)
def test_folder_without_images_is_explained(tmp_path, content, message):
    (tmp_path / "sub01").mkdir()
    path = tmp_path / "sub01" / content
    path.mkdir() if content.endswith("/") else path.write_text("{}")
    with pytest.raises(UserError, match=f"sub01 {message}"):
        ImageFolder(tmp_path / "sub01")


def test_prepared_file(tmp_path):
    frames = torch.randint(0, 256, (16, 144, 144), dtype=torch.uint8)
    landmarks, flow = (
        torch.arange(136.0).reshape(68, 2).repeat(16, 1, 1),
        torch.zeros(14, 2, 144, 144, dtype=torch.float16),
    )
    path = tmp_path / "v.safetensors"
    write_video(path, frames, landmarks, flow, subject="s", video="v", label="others", source="test")
    source = open_source(path)
    assert (source.count, source.fps, source.aligned) == (16, None, True)
    np.testing.assert_array_equal(np.stack(list(source)), frames.numpy())
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"v.safetensors"):
        open_source(path)


def test_array():
    frames = colours(4)
    source = FrameArray(frames, "clip")
    assert (source.count, source.frame_name(3)) == (4, "frame 3 of clip")
    np.testing.assert_array_equal(np.stack(list(source)), frames)
    for wrong in (frames.astype(float), frames[0, 0], frames[..., :2], frames[:0]):
        with pytest.raises(ValueError, match="frames must"):
            FrameArray(wrong)


def test_grey_and_rgb():
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    picture[..., 1] = 100
    assert grey(picture).tolist() == [[59] * 3] * 2  # 0.587 of green
    assert rgb(grey(picture)).tolist() == [[[59] * 3] * 3] * 2


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size, without its pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    pixels = b"IDAT" + zlib.compress(b"\0" * 1000)
    return start + struct.pack(">I", len(pixels) - 4) + pixels + struct.pack(">I", zlib.crc32(pixels))


@pytest.mark.parametrize(
    ("width", "height", "sentence"),
    [
        (30_000, 30_000, "more than 40 million pixels"),
        (1, 40_000, "1 x 40000 pixels, at most 8192 on a side"),
        (8000, 8000, "8000 x 8000 pixels"),
    ],
)
def test_defect_10_pictures_are_bounded_at_the_door(tmp_path, monkeypatch, width, height, sentence):
    """The header is enough: nothing is decoded."""
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(UserError, match=sentence):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".webp"])
def test_every_kind_of_image_is_read(tmp_path, suffix):
    picture = np.full((20, 30, 3), 90, dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), picture[..., 0] if suffix == ".pgm" else picture)
    assert read_image(tmp_path / f"a{suffix}").shape == (20, 30, 3)


def test_defect_10_video_frames_are_bounded_at_the_door(tmp_path, monkeypatch):
    with VideoWriter(tmp_path / "a.mp4", (16, 16)) as writer:
        writer.write(np.zeros((16, 16, 3), dtype=np.uint8))
    monkeypatch.setattr(video, "MOST_SIDE", 15)
    with pytest.raises(UserError, match=r"a\.mp4 is 16 x 16 pixels, at most 15 on a side"):
        VideoFile(tmp_path / "a.mp4")
