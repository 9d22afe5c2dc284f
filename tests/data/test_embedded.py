"""The embedded set: exact flow and landmarks, balance, determinism, and a cache that is whole or not there."""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mol_fast.data import PreparedSet, Video, embedded_set, generate_embedded, loading, render_video
from mol_fast.data.embedded import generate as embedded
from mol_fast.data.embedded.action_units import ACTION_UNITS, EMOTIONS, displacement_fields
from mol_fast.data.embedded.geometry import face_alignment, pixel_grid, sample
from mol_fast.data.embedded.motion import Motion, make_motion
from mol_fast.data.embedded.photographs import load_photograph
from mol_fast.data.embedded.rendering import moving_face, render_clip
from mol_fast.data.embedded.subjects import Subject, make_subject
from mol_fast.data.loading import data_folders
from mol_fast.utils.errors import UserError

PIXELS = pixel_grid(144, 144)


def flow_pairs(video: Video) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Per entry of the flow: first and second frame, flow (pixels, 2), and which pixels stay in the picture."""
    data = video.read()
    for i, flow in enumerate(data.flow.double()):
        vectors = flow.flatten(1).mT
        target = PIXELS + vectors
        inside = ((target >= 0) & (target <= 143)).all(-1)
        yield data.frames[i].double(), data.frames[i + video.interval].double(), vectors, inside


def without_light(seen: Tensor, wanted: Tensor) -> Tensor:
    """What of `wanted` remains after the gain, tilt and offset of light that bring `seen` closest to it."""
    x = PIXELS[: len(seen), 0] / 72 - 1
    basis = torch.stack([seen, seen * x, torch.ones_like(seen)], -1)
    return wanted - basis @ torch.linalg.lstsq(basis, wanted[:, None]).solution[:, 0]


def test_content(embedded_small: PreparedSet):
    assert embedded_small.name == "embedded"
    assert embedded_small.subjects == ["s01", "s02", "s03"]
    assert {video.source for video in embedded_small.videos} == {"embedded"}
    for video in embedded_small.videos:
        data = video.read()
        assert 12 <= video.frames <= 20
        assert data.frames.float().std((1, 2)).min() > 15
        assert data.landmarks[:, 17:].min() > 0
        assert data.landmarks[:, 17:].max() < 144


def test_every_subject_shows_every_emotion_equally_often(embedded_small: PreparedSet):
    counts = Counter((video.subject, video.label) for video in embedded_small.videos)
    assert counts == dict.fromkeys(((s, e) for s in embedded_small.subjects for e in EMOTIONS), 1)


def test_flow_explains_the_next_frame_up_to_light_and_noise(embedded_small: PreparedSet):
    for video in embedded_small.videos:
        for first, second, flow, inside in flow_pairs(video):
            moved = sample(second[None, None], (PIXELS + flow)[None])[0, 0]
            rest = without_light(moved, first.flatten())[inside]
            assert rest.square().mean().sqrt() < 4  # noise of two frames, 0.8 to 1.8 each, and interpolation


def test_flow_is_exact_without_light_and_noise():
    subject = make_subject(0, 0, 16)
    rng = np.random.default_rng(0)
    motion = make_motion(rng, "happiness", 16)
    still = Motion(motion.strength, motion.pose, torch.ones(16).double(), torch.zeros(16).double(), 0.0)
    frames, _, flow = render_clip(rng, subject, still, 2)
    smooth = frames.double()
    moving = flow.double().norm(dim=1).flatten(1) > 0.4
    target = PIXELS + flow.double().flatten(2).mT
    warped = sample(smooth[2:, None], target, "bicubic")[:, 0]
    before, after = ((picture - smooth[:14].flatten(1))[moving].abs() for picture in (smooth[2:].flatten(1), warped))
    assert before.mean() > 3
    assert after.mean() < 0.6


def test_landmarks_follow_the_flow(embedded_small: PreparedSet):
    for video in embedded_small.videos:
        data = video.read()
        count = len(data.flow)
        here, there = data.landmarks[:count], data.landmarks[video.interval :][:count]
        moved = here + sample(data.flow.float(), here).mT
        inside = ((here >= 0) & (here <= 143)).all(-1)
        assert (moved - there).norm(dim=-1)[inside].max() < 0.05


def test_flow_does_not_fold(embedded_small: PreparedSet):
    for video in embedded_small.videos:
        flow = video.read().flow.float()
        dx, dy = flow.diff(dim=3)[:, :, 1:], flow.diff(dim=2)[:, :, :, 1:]
        determinant = (1 + dx[:, 0]) * (1 + dy[:, 1]) - dx[:, 1] * dy[:, 0]
        assert determinant.min() > 0.3


def test_strong_motion_is_weakened_until_it_can_be_inverted():
    subject = make_subject(0, 1, 16)
    motion = make_motion(np.random.default_rng(1), "disgust", 12)
    face = moving_face(subject, motion._replace(strength=10 * motion.strength))
    seen = face.inverse(PIXELS)
    assert (face.forward(seen) - PIXELS).abs().max() < 2e-3
    across, down = (float(face.displacement.diff(dim=axis).norm(dim=1).max()) for axis in (-1, -2))
    assert np.hypot(across, down) == pytest.approx(0.6)


def test_motion_between_sampled_frames_is_small_and_local(embedded_small: PreparedSet):
    lengths = torch.cat([video.read().flow.float().norm(dim=1).flatten() for video in embedded_small.videos])
    moving = lengths > 0.1
    assert 0.2 < lengths[moving].mean() < 0.45
    assert 0.05 < moving.float().mean() < 0.5
    assert lengths.max() < 4


def test_subjects_differ_in_shape_and_look():
    subjects = [make_subject(0, index, 0) for index in range(4)]
    assert [subject.photograph for subject in subjects] == ["astronaut", "grace-hopper"] * 2
    for a, b in ((0, 2), (1, 3)):
        assert (subjects[a].landmarks - subjects[b].landmarks).norm(dim=-1).mean() > 1
        assert (subjects[a].texture - subjects[b].texture).abs().mean() > 5


@pytest.mark.parametrize(
    ("unit", "landmark", "direction"),
    [
        (1, 21, (0, -1)),  # inner brow up
        (2, 17, (0, -1)),  # outer brow up
        (4, 21, (0, 1)),  # brow down
        (6, 41, (0, -1)),  # lower lid up
        (7, 37, (0, 1)),  # upper lid down
        (9, 31, (0, -1)),  # wing of the nose up
        (10, 50, (0, -1)),  # upper lip up
        (12, 48, (-1, -1)),  # corner of the mouth out and up
        (14, 48, (1, 0)),  # corner of the mouth in
        (15, 48, (0, 1)),  # corner of the mouth down
        (17, 57, (0, -1)),  # lower lip up
        (20, 48, (-1, 0)),  # corner of the mouth out
        (24, 51, (0, 1)),  # upper lip down
    ],
)
def test_action_units_move_their_landmarks(unit: int, landmark: int, direction: tuple[int, int]):
    found = load_photograph("astronaut").landmarks
    landmarks = face_alignment(found)(found)
    fields = displacement_fields(landmarks, torch.cat([landmarks, PIXELS])).sum(1)
    vector = fields[list(ACTION_UNITS).index(unit), landmark]
    toward = torch.tensor(direction).double()
    assert vector @ toward / toward.norm() > 0.3
    assert vector @ toward > 0.8 * vector.norm() * toward.norm()


def test_a_video_depends_on_seed_subject_and_number_only(embedded_small: PreparedSet, tmp_path: Path):
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        again = generate_embedded(tmp_path / "again", subjects=1, repeats=1)
    finally:
        torch.set_num_threads(threads)
    expected = {video.name: video.path.read_bytes() for video in embedded_small.videos if video.subject == "s01"}
    assert {video.name: video.path.read_bytes() for video in again.videos} == expected
    other = generate_embedded(tmp_path / "other", subjects=1, repeats=1, seed=1)
    assert not any(video.path.read_bytes() == expected[video.name] for video in other.videos)
    assert other.subjects == ["s01-seed1"]


CLIPS: dict[str, tuple[Tensor, Tensor, Tensor]] = {}


@pytest.fixture
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renders no clip twice, where a test is about the folder of a set."""

    def draw(rng: np.random.Generator, subject: Subject, *motion: object) -> tuple[Tensor, Tensor, Tensor]:
        key = f"{subject.name} {rng.bit_generator.state}"
        if key not in CLIPS:
            CLIPS[key] = render_clip(rng, subject, *motion)
        return CLIPS[key]

    monkeypatch.setattr(embedded, "render_clip", draw)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, drawn_once: None) -> list[Path]:
    """Makes `embedded_set` generate one subject with one video of each emotion, and lists the folders it generated."""
    made = []

    def generate(path: Path, **options: object) -> PreparedSet:
        made.append(Path(path))
        return generate_embedded(path, **{**options, "subjects": 1, "repeats": 1})

    monkeypatch.setattr(embedded, "generate_embedded", generate)
    return made


def test_set_is_made_once_in_the_cache(small: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    steps: list[tuple[int, int]] = []
    first = embedded_set(on_progress=lambda done, total: steps.append((done, total)))
    second = embedded_set()
    assert first == second
    assert small == [first.path] == [tmp_path / "cache" / "mol-fast" / "embedded"]
    assert steps == [(k, 5) for k in range(1, 6)]
    assert sorted(os.listdir(first.path.parent)) == [".embedded.lock", "embedded"]
    assert json.loads((first.path / "set.json").read_text())["versions"].keys() == {
        "torch",
        "numpy",
        "scikit-image",
        "matplotlib",
    }


def test_a_set_of_more_subjects_has_a_folder_of_its_own(
    drawn_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(embedded, "generate_embedded", partial(generate_embedded, repeats=1))
    monkeypatch.setattr(embedded, "SUBJECTS", 1)
    monkeypatch.setattr(loading, "SUBJECTS", 1)
    (folder,) = data_folders([Path("embedded-2")])
    assert folder == tmp_path / "mol-fast" / "embedded-2"
    assert PreparedSet.open(folder).subjects == ["s01", "s101"]
    made = folder.stat().st_mtime_ns
    assert data_folders([Path("embedded-2"), Path("other")]) == (folder, Path("other"))
    assert folder.stat().st_mtime_ns == made
    with pytest.raises(UserError, match="holds 2 subjects, not 3; give another --data-dir"):
        data_folders([Path("embedded-3")], folder)
    for wrong in ("embedded-1", "embedded-1001"):
        with pytest.raises(UserError, match=f"no folder {wrong}: the embedded set has 1 subjects.*from 2 to 1000"):
            data_folders([Path(wrong)])
    for name in ("embedded-x", "embedded-" + "9" * 200):
        assert data_folders([Path(name)]) == (Path(name),)


def test_set_goes_to_an_empty_folder(small: list[Path], tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert embedded_set(tmp_path / "empty").subjects == ["s01"]


def test_default_folder_without_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: list[Path]):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert embedded_set().path == tmp_path / ".cache" / "mol-fast" / "embedded"


def test_outdated_or_damaged_set_is_made_anew(small: list[Path], tmp_path: Path):
    folder = tmp_path / "set"
    embedded_set(folder)
    info = json.loads((folder / "set.json").read_text())
    (folder / "set.json").write_text(json.dumps({**info, "generator": info["generator"] - 1}))
    embedded_set(folder)
    assert json.loads((folder / "set.json").read_text()) == info
    next(folder.glob("videos/*/*")).unlink()
    assert len(embedded_set(folder).videos) == 5
    assert len(small) == 3
    assert os.listdir(tmp_path) == ["set"]


def test_folders_of_others_are_left_alone(small: list[Path], tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is in the place of the generated set embedded: remove or rename it"):
        embedded_set(tmp_path)
    (tmp_path / "set.json").write_text(json.dumps({"format": 1, "size": 144, "name": "casme2"}))
    with pytest.raises(UserError, match="holds the set casme2"):
        embedded_set(tmp_path)
    with pytest.raises(
        UserError, match=r"notes\.txt is in the place of the generated set embedded: remove or rename it"
    ):
        embedded_set(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not small


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("step", ["write_video", "write_index"])
def test_interrupted_generation_is_no_set(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = generate_embedded(tmp_path / "old", subjects=1, repeats=1)

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, step, interrupt)
    for name in ("new", "old"):
        with pytest.raises(KeyboardInterrupt):
            generate_embedded(tmp_path / name, subjects=1, repeats=1)
    assert os.listdir(tmp_path) == ["old"]
    assert PreparedSet.open(tmp_path / "old") == old
    assert old.videos[0].read().frames.shape[1:] == (144, 144)


def test_killed_generation_is_no_set(small: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as context:
        context.setattr(shutil, "rmtree", lambda *args, **options: None)
        context.setattr(embedded, "write_index", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embedded_set(tmp_path / "set")
    assert not (tmp_path / "set").exists()
    assert len(embedded_set(tmp_path / "set").videos) == 5


def test_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        generate_embedded(tmp_path / "file" / "set", subjects=1, repeats=1)


@pytest.mark.parametrize("package", ["skimage.data", "matplotlib.image"])
def test_missing_package(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'mol-fast\[train\]'"):
        generate_embedded(tmp_path / "set", subjects=2, repeats=1)
    assert not list(tmp_path.iterdir())


def test_render_video():
    first = render_video(0, "surprise", 9, 160)
    assert first.shape == (9, 160, 160)
    assert first.dtype == torch.uint8
    assert torch.equal(first, render_video(0, "surprise", 9, 160))
    change = (first[0].float() - first.float()).abs().mean((1, 2))
    assert change.argmax() > 1
    assert change.max() < 10
    assert (first[0].float() - render_video(1, "surprise", 9, 160)[0].float()).abs().mean() > 10
