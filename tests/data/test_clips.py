"""Windows, crops, flips, normalisation and the data set of clips."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils.data import DataLoader

from mol_fast.data import (
    MIRROR,
    PROTOCOLS,
    Clip,
    ClipDataset,
    PreparedSet,
    VideoData,
    crop_clip,
    cut_window,
    flip_clip,
    get_protocol,
    normalise_frames,
    write_video,
)
from mol_fast.utils.errors import UserError

THREE = get_protocol("embedded-3")


def sample(pictures: Tensor, points: Tensor) -> Tensor:
    """Bilinear values (N, C, P) of pictures (N, C, H, W) at pixels (N, P, 2)."""
    scale = torch.tensor([2 / (pictures.shape[-1] - 1), 2 / (pictures.shape[-2] - 1)])
    return grid_sample(pictures, (points * scale - 1)[:, None], align_corners=True, padding_mode="border")[:, :, 0]


def pixels(clip: Clip) -> Tensor:
    y, x = torch.meshgrid(*(torch.arange(n) for n in clip.frames.shape[-2:]), indexing="ij")
    return torch.stack([x, y], -1).reshape(1, -1, 2).float()


def residuals(clip: Clip, flow: Tensor) -> tuple[float, float]:
    """Mean absolute difference of moving pixels from the next frame, where they are and where the flow says."""
    moving = (clip.flow.norm(dim=0) > 0.5).flatten(1)
    now, later = clip.frames[:-1].float().flatten(1), clip.frames[1:, None].float()
    points = pixels(clip).expand(len(now), -1, -1)
    still = sample(later, points)[:, 0]
    moved = sample(later, points + flow.transpose(0, 1).flatten(2).mT)[:, 0]
    return float((still - now)[moving].abs().mean()), float((moved - now)[moving].abs().mean())


def landmark_error(clip: Clip) -> float:
    """Largest distance, over landmarks inside the picture, from where the flow takes them to where they are next."""
    here, there = clip.landmarks[:-1], clip.landmarks[1:]
    moved = here + sample(clip.flow.transpose(0, 1), here).mT
    inside = ((here >= 0) & (here <= clip.frames.shape[-1] - 1)).all(-1)
    return float((moved - there).norm(dim=-1)[inside].max())


def as_clip(item: dict[str, Tensor]) -> Clip:
    return Clip(item["frames"][0], item["flow"], item["landmarks"])


@pytest.mark.parametrize("frames", [8, 15, 16, 23, 24, 30])
def test_windows(frames: int):
    interval = frames // 8
    data = VideoData(
        torch.arange(frames, dtype=torch.uint8)[:, None, None].expand(-1, 144, 144),
        torch.arange(frames)[:, None, None].expand(-1, 68, 2).float(),
        torch.arange(7 * interval)[:, None, None, None].expand(-1, 2, 144, 144).half(),
    )
    for window in range(interval):
        clip = cut_window(data, window)
        assert clip.frames[:, 0, 0].tolist() == [window + k * interval for k in range(8)]
        assert clip.landmarks[:, 0, 0].tolist() == [window + k * interval for k in range(8)]
        assert clip.flow[0, :, 0, 0].tolist() == [window + k * interval for k in range(7)]
        assert clip.flow.shape == (2, 7, 144, 144)
    for window in (-1, interval):
        with pytest.raises(ValueError, match="window"):
            cut_window(data, window)


def marked_clip() -> Clip:
    """A clip whose frames show 1 + k at the pixel of landmark k, with random flow."""
    generator = torch.Generator().manual_seed(0)
    spots = torch.randperm(40 * 30, generator=generator)[:68]
    frames = torch.zeros(8, 30 * 40, dtype=torch.uint8)
    frames[:, spots] = torch.arange(1, 69, dtype=torch.uint8)
    landmarks = torch.stack([spots % 40, spots // 40], -1).float().expand(8, -1, -1)
    return Clip(frames.view(8, 30, 40), torch.randn(2, 7, 30, 40, generator=generator), landmarks)


def values_at(clip: Clip) -> list[int]:
    x, y = clip.landmarks[0].long().T
    return clip.frames[0, y, x].tolist()


def test_crop():
    clip = crop_clip(marked_clip(), 7, 3, 20)
    assert torch.equal(clip.frames, marked_clip().frames[:, 3:23, 7:27])
    assert torch.equal(clip.flow, marked_clip().flow[:, :, 3:23, 7:27])
    assert torch.equal(clip.landmarks, marked_clip().landmarks - torch.tensor([7, 3]))


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (21, 0), (0, 11)])
def test_crop_outside(x: int, y: int):
    with pytest.raises(ValueError, match="does not lie in a frame of 40 x 30"):
        crop_clip(marked_clip(), x, y, 20)


def test_flip_moves_landmarks_with_the_picture():
    flipped = flip_clip(marked_clip())
    assert values_at(marked_clip()) == list(range(1, 69))
    assert values_at(flipped) == [1 + k for k in MIRROR]


def test_flip_negates_x_flow():
    clip, flipped = marked_clip(), flip_clip(marked_clip())
    assert torch.equal(flipped.flow[0], -clip.flow[0].flip(-1))
    assert torch.equal(flipped.flow[1], clip.flow[1].flip(-1))


def test_flip_twice():
    for flipped, original in zip(flip_clip(flip_clip(marked_clip())), marked_clip(), strict=True):
        assert torch.equal(flipped, original)


def test_mirror_swaps_the_parts_of_a_face(embedded_small: PreparedSet):
    assert sorted(MIRROR) == list(range(68))
    assert [MIRROR[k] for k in MIRROR] == list(range(68))
    for video in embedded_small.videos[::5]:
        landmarks = video.read().landmarks[0]
        mirrored = landmarks[list(MIRROR)] * torch.tensor([-1, 1])
        apart = (mirrored - mirrored.mean(0)) - (landmarks - landmarks.mean(0))
        assert apart.norm(dim=-1).max() < 16  # eyes are some 50 px apart: faces are nearly symmetric


def test_normalise():
    frames = torch.randint(0, 256, (3, 8, 20, 30), dtype=torch.uint8)
    normal = normalise_frames(frames)
    assert normal.dtype == torch.float32
    assert normal.mean((1, 2, 3)).abs().max() < 1e-5
    assert (normal.square().mean((1, 2, 3)) - 1).abs().max() < 1e-5
    torch.testing.assert_close(normal[1], normalise_frames(frames[1]))
    assert torch.equal(normalise_frames(torch.full((8, 4, 4), 7)), torch.zeros(8, 4, 4))


def test_items(embedded_small: PreparedSet):
    videos = embedded_small.videos
    clips = ClipDataset(videos, THREE)
    kept = [k for k, video in enumerate(videos) if video.label != "others"]
    assert len(clips) == sum(videos[k].interval for k in kept)
    order = [(int(item["video"]), int(item["window"])) for item in (clips[i] for i in range(len(clips)))]
    assert order == [(k, window) for k in kept for window in range(videos[k].interval)]
    item = clips[len(clips) - 1]
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in item.items()}
    assert shapes == {
        "frames": ((1, 8, 128, 128), torch.float32),
        "flow": ((2, 7, 128, 128), torch.float32),
        "landmarks": ((8, 68, 2), torch.float32),
        "label": ((), torch.int64),
        "units": ((12,), torch.int8),
        "video": ((), torch.int64),
        "window": ((), torch.int64),
    }
    k, window = int(item["video"]), int(item["window"])
    expected = crop_clip(cut_window(videos[k].read(), window), 8, 8)
    assert torch.equal(item["frames"][0], normalise_frames(expected.frames))
    assert torch.equal(item["flow"], expected.flow.float())
    assert torch.equal(item["landmarks"], expected.landmarks)
    assert THREE.classes[int(item["label"])] == THREE.mapping[videos[k].label]


def test_augmented_clips_stay_consistent(embedded_small: PreparedSet):
    clips = ClipDataset(embedded_small.videos, THREE, crop="random", flip=True, seed=3)
    turned = torch.tensor([-1.0, 1.0])[:, None, None, None]
    sideways = []
    for index in range(0, len(clips), 2):
        clip = as_clip(clips[index])
        still, moved = residuals(clip, clip.flow)
        assert moved < 0.55 * still
        assert landmark_error(clip) < 0.05
        sideways.append(residuals(clip, clip.flow * turned)[1] / moved)
    assert min(sideways) > 1  # the sign of x matters, most where the motion is sideways
    assert max(sideways) > 2


def test_augmentation_draws_offsets_and_flips(embedded_small: PreparedSet):
    clips = ClipDataset(embedded_small.videos, THREE, crop="random", flip=True)
    plain = cut_window(embedded_small.videos[0].read(), 0).landmarks
    mirrored = flip_clip(cut_window(embedded_small.videos[0].read(), 0)).landmarks
    found = set()
    for epoch in range(40):
        clips.set_epoch(epoch)
        landmarks = clips[0]["landmarks"]
        for flip, original, base in ((False, plain, 0), (True, mirrored, 16)):
            shift = original - landmarks
            if shift.flatten(0, 1).std(0).max() < 1e-3:
                x, y = (shift.mean((0, 1)) + 1e-3).int().tolist()
                found.add((flip, base - x if flip else x, y))
    assert {flip for flip, _, _ in found} == {False, True}
    assert len(found) > 30
    assert all(0 <= x <= 16 and 0 <= y <= 16 for _, x, y in found)
    assert min(x for _, x, _ in found) < 4
    assert max(x for _, x, _ in found) > 12


def test_items_depend_on_seed_and_epoch_only(embedded_small: PreparedSet):
    def landmarks(seed: int, epoch: int, index: int = 4) -> Tensor:
        clips = ClipDataset(embedded_small.videos, THREE, crop="random", flip=True, seed=seed)
        clips.set_epoch(epoch)
        return clips[index]["landmarks"]

    assert torch.equal(landmarks(1, 2), landmarks(1, 2))
    assert not torch.equal(landmarks(1, 2), landmarks(1, 3))
    assert not torch.equal(landmarks(1, 2), landmarks(2, 2))
    assert torch.equal(landmarks(1, 2, 4), landmarks(1, 2, 4 - len(ClipDataset(embedded_small.videos, THREE))))


def test_workers_give_the_same_batches(embedded_small: PreparedSet):
    clips = ClipDataset(embedded_small.videos, THREE, crop="random", flip=True)
    clips.set_epoch(1)
    alone, shared = (list(DataLoader(clips, 4, num_workers=workers)) for workers in (0, 2))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(alone, shared, strict=True) for name in a)


def test_protocols():
    assert THREE.classes == ("negative", "positive", "surprise")
    indices = {label: THREE.class_index(label) for label in THREE.mapping}
    assert indices == {"disgust": 0, "repression": 0, "happiness": 1, "surprise": 2, "others": None}
    five = get_protocol("embedded-5")
    assert five.classes == ("surprise", "happiness", "disgust", "repression", "others")
    assert [five.class_index(label) for label in five.classes] == [0, 1, 2, 3, 4]
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    with pytest.raises(UserError, match=r"no protocol 'casme'; choose one of embedded-3, embedded-5"):
        get_protocol("casme")


def test_protocol_selects_videos(embedded_small: PreparedSet):
    assert THREE.select(embedded_small.videos) == [v for v in embedded_small.videos if v.label != "others"]
    assert get_protocol("embedded-5").select(embedded_small.videos) == embedded_small.videos


def test_unknown_label(tmp_path: Path):
    content = (
        torch.zeros(8, 144, 144, dtype=torch.uint8),
        torch.arange(136.0).reshape(68, 2).repeat(8, 1, 1),
        torch.zeros(7, 2, 144, 144).half(),
    )
    video = write_video(tmp_path / "a", *content, subject="1", video="a", label="joy", source="test")
    with pytest.raises(UserError, match="does not know the label 'joy'"):
        ClipDataset([video], THREE)


def test_unknown_crop(embedded_small: PreparedSet):
    with pytest.raises(ValueError, match="crop is 'corner'"):
        ClipDataset(embedded_small.videos, THREE, crop="corner")


def test_item_of_a_damaged_video(tmp_path: Path):
    content = (
        torch.zeros(8, 144, 144, dtype=torch.uint8),
        torch.arange(136.0).reshape(68, 2).repeat(8, 1, 1),
        torch.zeros(7, 2, 144, 144).half(),
    )
    video = write_video(tmp_path / "a", *content, subject="1", video="a", label="surprise", source="test")
    clips = ClipDataset([video], THREE)
    video.path.write_bytes(video.path.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        clips[0]
