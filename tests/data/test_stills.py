"""Stills: frames changed at random, with landmarks that go with them, drawn equally often from each set."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mol_fast.data import ClipDataset, PreparedSet, Video, get_protocol, write_video
from mol_fast.data.stills import StillDataset
from mol_fast.train import main
from mol_fast.training.loop import _stream, batches
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.vision.ibug import MIRROR
from mol_fast.vision.sizes import CROP, FRAME, WINDOW

FIRST = torch.cartesian_prod(torch.arange(8.0), torch.arange(9.0))[:68] * 14 + 18


def spotted(folder: Path, source: str = "spots", name: str = "v") -> Video:
    """A video whose landmarks are bright spots, and whose mirrored landmarks lie on mirrored places."""
    landmarks = FIRST.clone()
    for left, right in enumerate(MIRROR):
        if right > left:
            landmarks[right] = torch.stack([FRAME - 1 - landmarks[left, 0], landmarks[left, 1]])
    y, x = torch.meshgrid(torch.arange(float(FRAME)), torch.arange(float(FRAME)), indexing="ij")
    spots = [torch.exp(-((x - a).square() + (y - b).square()) / 4) for a, b in landmarks.tolist()]
    frames = (200 * torch.stack(spots).amax(0)).byte().expand(WINDOW, -1, -1).contiguous()
    flow = torch.zeros(7, 2, FRAME, FRAME, dtype=torch.float16)
    every = landmarks.expand(WINDOW, -1, -1).contiguous()
    return write_video(
        folder / f"{name}.safetensors", frames, every, flow, subject=name, video=name, label="happiness", source=source
    )


def light_at(still: Tensor, points: Tensor) -> Tensor:
    """Brightest value within 1 pixel of each point."""
    around = torch.nn.functional.max_pool2d(still[None], 3, 1, 1)[0, 0]
    x, y = points.round().long().unbind(-1)
    return around[y, x]


def test_landmarks_go_with_the_picture(tmp_path: Path) -> None:
    stills = StillDataset([spotted(tmp_path)])
    places = []
    for epoch in range(40):
        stills.set_epoch(epoch)
        item = stills[0]
        picture, points = item["stills"], item["still_landmarks"]
        assert picture.shape == (1, CROP, CROP)
        assert picture.dtype == points.dtype == torch.float32
        assert abs(float(picture.mean())) < 1e-4
        inside = ((points > 2) & (points < CROP - 3)).all(-1)
        lit = light_at(picture, points[inside]) > picture.median() + 0.8
        assert lit.float().mean() > 0.85  # the others are covered
        places.append(points)
    spread = torch.stack(places).std(0)
    assert spread.min() > 2


def test_without_flip_no_still_is_mirrored(tmp_path: Path) -> None:
    video = spotted(tmp_path)
    sides = {}
    for flip in (True, False):
        stills = StillDataset([video], flip)
        apart = []
        for epoch in range(12):
            stills.set_epoch(epoch)
            points = stills[0]["still_landmarks"]
            apart.append(bool(points[27, 0] > points[8, 0]))  # both on the middle line of a face: never swapped
        sides[flip] = len(set(apart))
    assert sides[True] == 2
    assert sides[False] == 1


def test_items_depend_on_seed_epoch_and_draw_only(embedded_small: PreparedSet) -> None:
    def item(seed: int, epoch: int, index: int | tuple[int, int]) -> Tensor:
        stills = StillDataset(embedded_small.videos, seed=seed)
        stills.set_epoch(epoch)
        return stills[index]["stills"]

    assert torch.equal(item(1, 2, 3), item(1, 2, (3, 0)))
    for other in ((0, 2, 3), (1, 1, 3), (1, 2, 4), (1, 2, (3, 1))):
        assert not torch.equal(item(1, 2, 3), item(*other))


def test_batches_draw_all_sets_equally_and_go_on(tmp_path: Path, embedded_small: PreparedSet) -> None:
    clips = ClipDataset(embedded_small.videos, get_protocol("embedded-3"), "random")
    rare = [spotted(tmp_path, name=f"v{k}") for k in range(2)]
    stills = StillDataset([*clips.videos, *rare])
    settings = TrainSettings(batch_size=4, stills=6)
    drawn = list(islice(batches(clips, settings, stills=stills), 8))
    assert all(batch["stills"].shape == (6, 1, CROP, CROP) for batch in drawn)
    landmarks = torch.cat([batch["still_landmarks"] for batch in drawn[: len(stills) // 6]])
    of_spots = (landmarks[:, :, 1].std(-1) < 34).sum()  # a grid, not a face
    assert abs(int(of_spots) - len(landmarks) / 2) <= 3
    again = list(islice(batches(clips, settings, done=3, stills=stills), 5))
    for later, same in zip(drawn[3:], again, strict=True):
        assert all(torch.equal(later[name], same[name]) for name in later)


def test_stills_that_cannot_be_split_name_their_option(tmp_path: Path) -> None:
    stills = StillDataset([spotted(tmp_path)] * 3)
    with pytest.raises(UserError, match="3 stills cannot be split over 2 processes: give another --stills"):
        next(_stream(stills, 64, None, TrainSettings(), 0, 0, 2))


@pytest.mark.parametrize("flag", [("--tasks", "mer", "flow"), ("--preset", "official"), ("--model", "majority")])
def test_refused(flag: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stills", "4", *flag]) == 2
    assert "--stills train landmarks" in capsys.readouterr().err
