"""Every kind of video file, with the right pixels and the right times."""

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from harness.people import COLLINS, eye_distance, portrait
from harness.videos import corners, quarter_levels, write_file, write_sound

from mol_fast.utils.errors import UserError
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.video import grey

LEVELS = [40, 90, 150, 210]
TICK = 1 / 25
MATRICES = {8: "YCgCo", 10: "bt2020c", 14: "ICtCp"}  # names of x264


def still(count: int = 12) -> list[np.ndarray]:
    return [corners()] * count


def steps(count: int = 30) -> list[np.ndarray]:
    """Frame i has the level 40 + 5 i."""
    return [np.full((48, 64), 40 + 5 * i, dtype=np.uint8) for i in range(count)]


def noise(count: int = 30) -> list[np.ndarray]:
    """Frames whose packets are large."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (48, 64), dtype=np.uint8) for _ in range(count)]


def levels(source: VideoFile) -> list[list[int]]:
    return [quarter_levels(frame) for frame in source]


def cut(path: Path, share: float) -> Path:
    os.truncate(path, round(share * path.stat().st_size))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        (".mp4", "mpeg4", "yuv420p"),
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx264", "yuv444p"),
        (".avi", "mjpeg", "yuvj420p"),  # full range
        (".ts", "mpeg2video", "yuv420p"),
        (".mkv", "libx264", "yuv420p10le"),
        (".mkv", "ffv1", "gray12le"),
        (".mkv", "ffv1", "gray16le"),
    ],
)
def test_pixels_and_times_of_every_codec_range_and_depth(tmp_path, suffix, codec, pixels):
    source = VideoFile(write_file(tmp_path / f"a{suffix}", still(), codec, pixels=pixels))
    assert (source.count, source.fps, source.aligned, source.notes) == (12, 25, False, ())
    np.testing.assert_allclose(source.times, np.arange(12) * TICK, atol=1e-3)
    for _ in range(2):  # as often as one likes
        pictures = list(source)
        assert [picture.shape for picture in pictures] == [(48, 64, 3)] * 12
        for picture in pictures:
            np.testing.assert_allclose(quarter_levels(picture), LEVELS, atol=1.5)
    for index, picture in source.pick({7, 3}):
        np.testing.assert_array_equal(picture, pictures[index])
    assert [index for index, _ in source.pick({7, 3})] == [3, 7]
    check_yuv(source)


def check_yuv(source: VideoFile) -> None:
    """The frames in YUV, and in grey, are those in RGB."""
    for picture, other in zip(source, source.in_grey(), strict=True):
        np.testing.assert_allclose(quarter_levels(other), quarter_levels(grey(picture)), atol=1)
    for picture, other in zip(source, source.in_yuv(), strict=True):
        shown = cv2.cvtColor(other, cv2.COLOR_YUV2RGB_I420)[: picture.shape[0], : picture.shape[1]]
        np.testing.assert_allclose(quarter_levels(shown), quarter_levels(picture), atol=2)


@pytest.mark.parametrize(("space", "plain"), [(5, True), (1, False)])  # BT.601, BT.709
def test_frames_in_yuv_have_the_colours_of_those_in_rgb(tmp_path, space, plain):
    colors = np.zeros((48, 64, 3), dtype=np.uint8)
    colors[:24, :32], colors[24:, :32], colors[:24, 32:] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    with av.open(tmp_path / "a.mp4", "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"qp": "4"})
        stream.width, stream.height, stream.codec_context.colorspace = 64, 48, space
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(colors, format="rgb24")
            file.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=space)))
        file.mux(stream.encode(None))
    source = VideoFile(tmp_path / "a.mp4")
    with av.open(tmp_path / "a.mp4") as file:
        stored = [frame.to_ndarray() for frame in file.decode(video=0)]
    for picture, other, kept in zip(source, source.in_yuv(), stored, strict=True):
        shown = cv2.cvtColor(other, cv2.COLOR_YUV2RGB_I420).astype(int)
        for rows, columns in np.ndindex(2, 2):
            part = slice(24 * rows + 4, 24 * rows + 20), slice(32 * columns + 4, 32 * columns + 28)
            assert np.abs(shown[part] - picture[part]).max() <= 3
        assert (other == kept).all() == plain


def test_pixels_are_those_of_opencv_within_a_level(tmp_path):
    path = write_file(tmp_path / "a.mp4", noise(3), "libx264", options={"qp": "4"})
    capture = cv2.VideoCapture(str(path))
    for picture in VideoFile(path):
        _, other = capture.read()
        assert np.abs(grey(picture).astype(int) - cv2.cvtColor(other, cv2.COLOR_BGR2GRAY)).max() <= 1


@pytest.mark.parametrize(
    ("turn", "shape", "order"),
    [(90, (64, 48), (1, 3, 0, 2)), (180, (48, 64), (3, 2, 1, 0)), (-90, (64, 48), (2, 0, 3, 1))],
)
def test_a_turned_video_is_upright(tmp_path, turn, shape, order):
    source = VideoFile(write_file(tmp_path / "phone.mp4", still(), turn=turn))
    picture = next(iter(source))
    assert picture.shape[:2] == shape
    np.testing.assert_allclose(quarter_levels(picture), [LEVELS[i] for i in order], atol=1.5)
    check_yuv(source)


@pytest.mark.parametrize(
    ("pixel", "turn", "shape"),
    [((4, 3), 0, (48, 85)), ((3, 4), 0, (64, 64)), ((4, 3), 90, (85, 48)), ((100, 1), 0, (48, 64))],
)
def test_anamorphic_video_gets_square_pixels(tmp_path, pixel, turn, shape):
    path = write_file(tmp_path / "hdv.mp4", still(), "libx264", pixel_shape=Fraction(*pixel), turn=turn)
    picture = next(iter(VideoFile(path)))
    assert picture.shape[:2] == shape  # a pixel of 100:1 is damage
    if not turn:
        np.testing.assert_allclose(quarter_levels(picture), LEVELS, atol=1.5)


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mp4", "libx264", {"x264-params": "tff=1:qp=10"}),
        (".mkv", "mpeg2video", {"flags": "+ildct+ilme", "qmin": "1", "qmax": "2"}),
    ],
)
def test_interlaced_video_has_no_comb_and_all_its_frames(tmp_path, suffix, codec, options):
    """A bar moves 8 pixels per frame; the odd lines are the first field, the even ones show it half a frame later."""
    frames = []
    for i in range(16):
        frame = np.full((96, 160), 50, dtype=np.uint8)
        frame[1::2, 8 * i : 8 * i + 24] = 200
        frame[::2, 8 * i + 4 : 8 * i + 28] = 200
        frames.append(frame)
    source = VideoFile(write_file(tmp_path / f"dv{suffix}", frames, codec, options=options))
    assert source.count == 16
    pictures = [grey(picture).astype(int) for picture in source]
    assert len(pictures) == 16
    np.testing.assert_allclose(source.times, np.arange(16) * TICK, atol=1e-3)
    for i in range(2, 14):
        comb, raw = (
            np.abs(picture[1:-1] - (picture[:-2] + picture[2:]) / 2).mean()
            for picture in (pictures[i], frames[i] + 0.0)
        )
        assert comb < 0.3 * raw
        bar = np.flatnonzero(pictures[i].mean(0) > 125)
        assert abs(bar.mean() - (8 * i + 11.5)) < 1


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_size_that_changes_keeps_that_of_the_first_frame(tmp_path, interlaced):
    options = {"x264-params": "tff=1:qp=10"} if interlaced else {}
    first = write_file(tmp_path / "a.ts", still(), "libx264", options=options)
    second = write_file(tmp_path / "b.ts", [corners(96, 128)] * 12, "libx264", options=options)
    (tmp_path / "ab.ts").write_bytes(first.read_bytes() + second.read_bytes())
    source = VideoFile(tmp_path / "ab.ts")
    assert source.count == 24
    for picture in source:
        assert picture.shape == (48, 64, 3)
        np.testing.assert_allclose(quarter_levels(picture), LEVELS, atol=2)
    check_yuv(source)
    np.testing.assert_allclose(source.times, np.arange(24) * TICK, atol=1e-3)
    assert source.fps == pytest.approx(25)
    name = source.name
    assert source.notes == (f"the time stamps of {name} begin anew once: its times go on from the frame before",)


@pytest.mark.parametrize(
    ("size", "pixel_shape", "rows", "columns"),
    [
        ((64, 48), None, (0, 48), (14, 50)),  # upright after wide
        ((48, 64), Fraction(2, 1), (12, 36), (0, 64)),
        ((48, 64), Fraction(1, 2), (0, 48), (16, 48)),
    ],
)
def test_a_shape_that_changes_is_shown_between_borders(tmp_path, size, pixel_shape, rows, columns):
    first = write_file(tmp_path / "a.ts", still(), "libx264")
    other = [corners(*size)] * 12
    second = write_file(tmp_path / "b.ts", other, "libx264", pixel_shape=pixel_shape)
    (tmp_path / "ab.ts").write_bytes(first.read_bytes() + second.read_bytes())
    source = VideoFile(tmp_path / "ab.ts")
    assert source.notes[-1].startswith(f"some frames of {source.name} have another shape than the first")
    for index, (picture, gray, yuv) in enumerate(zip(source, source.in_grey(), source.in_yuv(), strict=True)):
        assert picture.shape == (48, 64, 3)
        if index in (10, 11):  # the decoder tells the shape of pixels when it reads a frame, two before it is shown
            continue
        rows_shown, columns_shown = (slice(0, 48), slice(0, 64)) if index < 12 else (slice(*rows), slice(*columns))
        inside = picture[rows_shown, columns_shown]
        np.testing.assert_allclose(quarter_levels(inside), LEVELS, atol=3)
        np.testing.assert_allclose(quarter_levels(gray[rows_shown, columns_shown]), LEVELS, atol=3)
        assert yuv.shape == (72, 64)
        borders = picture.astype(int).sum() - inside.astype(int).sum()
        assert borders < 100 * (index >= 12) + 1


@pytest.mark.parametrize(("size", "hd"), [((720, 576), False), ((1280, 720), True), ((608, 608), True)])
def test_colours_that_are_not_told_are_those_of_the_size(tmp_path, size, hd):
    """As players do: BT.709 for high definition, BT.601 for less."""
    color = np.empty((*size[::-1], 3), dtype=np.uint8)
    color[:] = 200, 60, 30
    with av.open(tmp_path / "a.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        frame = av.VideoFrame.from_ndarray(color, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=1 if hd else 5)
        frame.colorspace = 2
        file.mux([*stream.encode(frame), *stream.encode(None)])
    source = VideoFile(tmp_path / "a.mkv")
    (picture,), (yuv,) = source, source.in_yuv()
    np.testing.assert_allclose(picture[100, 100], (200, 60, 30), atol=3)
    np.testing.assert_allclose(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB_I420)[100, 100], (200, 60, 30), atol=3)


@pytest.mark.parametrize("matrix", sorted(MATRICES))
def test_colours_that_ffmpeg_cannot_convert_do_not_hide_the_picture(tmp_path, matrix):
    path = write_file(
        tmp_path / "a.mkv", still(), "libx264", options={"x264-params": f"colormatrix={MATRICES[matrix]}"}
    )
    source = VideoFile(path)
    with av.open(path) as file:
        assert next(file.decode(video=0)).colorspace == matrix
    for picture in source:
        np.testing.assert_allclose(quarter_levels(picture), LEVELS, atol=2)
    check_yuv(source)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_of_a_variable_rate_are_time_stamps(tmp_path, suffix):
    times = np.cumsum([0.02 + 0.04 * (i % 3) for i in range(24)])
    source = VideoFile(write_file(tmp_path / f"phone{suffix}", still(24), "libx264", times=times))
    np.testing.assert_allclose(source.times, times - times[0], atol=2e-3)
    assert source.fps == pytest.approx(23 / (times[-1] - times[0]), rel=0.01)
    np.testing.assert_allclose(VideoFile(source.path, 50).times, np.arange(24) / 50)  # --fps replaces them


def test_a_bare_stream_has_no_times(tmp_path):
    source = VideoFile(write_file(tmp_path / "a.h264", still(), "libx264"))
    assert (source.count, source.fps, source.times) == (12, None, None)
    assert VideoFile(source.path, 30).times[3] == pytest.approx(0.1)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_an_edit_list_cuts_what_is_not_shown(tmp_path, codec):
    """Frames 0 to 11 are in the file, before the first key frame that is shown ends."""
    source = VideoFile(write_file(tmp_path / "trimmed.mp4", steps(), codec, shift=0.4))
    assert source.count == 20
    np.testing.assert_allclose(source.times, np.arange(20) * TICK, atol=1e-3)
    np.testing.assert_allclose([x[0] for x in levels(source)], [40 + 5 * i for i in range(10, 30)], atol=4)


def test_skipped_frames_keep_their_times(tmp_path):
    path = write_file(tmp_path / "webcam.avi", steps(), "mjpeg", pixels="yuvj420p", drop=range(8, 16))
    source = VideoFile(path)
    kept = [*range(8), *range(16, 30)]
    assert source.count == 22
    np.testing.assert_allclose(source.times, np.array(kept) * TICK, atol=1e-3)
    np.testing.assert_allclose([x[0] for x in levels(source)], [40 + 5 * i for i in kept], atol=1.5)
    assert "announces 30 frames, 22 are shown" in source.notes[0]


def test_broken_frames_are_left_out_with_a_note(tmp_path):
    source = VideoFile(write_file(tmp_path / "a.mkv", steps(), "mjpeg", pixels="yuvj420p", damage=(5, 6)))
    kept = [i for i in range(30) if i not in (5, 6)]
    np.testing.assert_allclose(source.times, np.array(kept) * TICK, atol=1e-3)
    np.testing.assert_allclose([x[0] for x in levels(source)], [40 + 5 * i for i in kept], atol=1.5)
    assert source.notes == (f"2 frames of {source.name} cannot be decoded, they are left out",)


def test_much_damage_is_refused(tmp_path):
    path = write_file(tmp_path / "a.mkv", steps(), "mjpeg", pixels="yuvj420p", damage=range(10, 30))
    with pytest.raises(UserError, match=r"20 of 30 frames of .*a.mkv cannot be decoded"):
        VideoFile(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_cover_picture_is_not_the_video(tmp_path, suffix):
    source = VideoFile(write_file(tmp_path / f"a{suffix}", still(), cover=True))
    assert source.count == 12
    np.testing.assert_allclose(levels(source)[5], LEVELS, atol=1.5)


@pytest.mark.parametrize("name", ["10:30.mp4", "a%03d.mp4", "-.mp4", "é #1?.mp4"])
def test_a_path_is_a_path(tmp_path, monkeypatch, name):
    write_file(tmp_path / name, still())
    monkeypatch.chdir(tmp_path)
    assert VideoFile(name).count == VideoFile(tmp_path / name).count == 12


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    container = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
    codec, options = ("libvpx", {"deadline": "realtime", "cpu-used": "8"}) if suffix == ".webm" else ("mpeg4", {})
    path = write_file(tmp_path / f"a{suffix}", noise(), codec, container=container, options=options)
    assert VideoFile(path).count == 30
    with pytest.raises(UserError, match=r"a\.\w+ ends after \d+( of 30)? frames, the file is truncated"):
        VideoFile(cut(path, 0.6))


def test_what_is_no_video_is_said_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"a.wav holds no video \(only audio\), give a video file"):
        VideoFile(write_sound(tmp_path / "a.wav"))
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty.mp4 cannot be read as video"):
        VideoFile(tmp_path / "empty.mp4")
    path = write_file(tmp_path / "all.mkv", steps(), "mjpeg", pixels="yuvj420p", damage=range(30))
    with pytest.raises(UserError, match=r"all.mkv has no readable frame, the file is damaged or encrypted"):
        VideoFile(path)


def test_a_playlist_opens_no_other_address(tmp_path):
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    with pytest.raises(UserError, match=r"a.m3u8 is a list of other files"):
        VideoFile(tmp_path / "a.m3u8")


def test_frames_are_read_one_at_a_time(tmp_path, monkeypatch):
    source = VideoFile(write_file(tmp_path / "a.mp4", still(100), gop=50))
    decoded = []
    decode = VideoFile._decode
    monkeypatch.setattr(VideoFile, "_decode", lambda *given: (decoded.append(1) or x for x in decode(*given)))
    frames = iter(source)
    next(frames)
    assert len(decoded) == 1


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "pixel_shape", "turn", "options"),
    [
        ("a.mp4", "libx264", "yuv420p", None, 0, {"x264-params": "tff=1"}),  # interlaced
        ("a.ts", "mpeg2video", "yuv420p", None, 0, {"flags": "+ildct+ilme", "qmin": "1", "qmax": "2"}),
        ("a.mov", "prores_ks", "yuv422p10le", None, 0, {"flags": "+ildct+ilme"}),
        ("a.mp4", "libx264", "yuv420p", Fraction(4, 3), 0, {}),
        ("a.mp4", "libx264", "yuv420p", None, 90, {}),
        ("a.mkv", "ffv1", "gray12le", None, 0, {}),
    ],
)
def test_landmarks_are_those_of_the_plain_picture(finder, tmp_path, name, codec, pixels, pixel_shape, turn, options):
    """Within 3 % of the distance of the eyes, whatever is done to the picture in the file."""
    picture, truth = portrait(COLLINS)
    stored = cv2.resize(picture, (480, 360), interpolation=cv2.INTER_AREA) if pixel_shape else picture
    stored = np.ascontiguousarray(np.rot90(stored, -turn // 90))
    path = write_file(
        tmp_path / name, [stored] * 4, codec, pixels=pixels, pixel_shape=pixel_shape, turn=turn, options=options
    )
    expected = finder.find(picture)
    for frame in VideoFile(path):
        found = finder.find(grey(frame))
        assert frame.shape[:2] == picture.shape
        assert found is not None
        error = np.linalg.norm(found.landmarks - expected.landmarks, axis=1).mean()
        assert error < 0.03 * eye_distance(truth)


@pytest.mark.parametrize("suffix", [".dv", ".avi"])
def test_landmarks_of_a_camcorder_tape_are_those_of_the_plain_picture(finder, tmp_path, suffix):
    """DV: interlaced, the bottom field first, 720 x 576 pixels that are shown as 768 x 576."""
    picture, truth = portrait(COLLINS)
    scale = 576 / len(picture)
    plain = np.full((576, 768), 110, dtype=np.uint8)
    shown = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:, :768]
    plain[:, : shown.shape[1]] = shown
    stored = cv2.resize(plain, (720, 576), interpolation=cv2.INTER_AREA)
    source = VideoFile(write_file(tmp_path / f"tape{suffix}", [stored] * 4, "dvvideo", pixel_shape=Fraction(16, 15)))
    expected = finder.find(plain)
    assert (source.count, source.fps) == (4, 25)
    for frame in source:
        found = finder.find(grey(frame))
        assert frame.shape[:2] == plain.shape
        error = np.linalg.norm(found.landmarks - expected.landmarks, axis=1).mean()
        assert error < 0.03 * eye_distance(truth) * scale
