"""Another texture for clips and stills: the same for all frames of a clip, and none where none is asked for."""

import numpy as np
import pytest
import torch

from mol_fast.data import ClipDataset, PreparedSet, get_protocol
from mol_fast.data.stills import StillDataset
from mol_fast.data.textures import retextured

SEEDS = range(12)


def moving(seed: int) -> np.ndarray:
    """Frames (3, 48, 48), uint8, each 2 pixels further to the right."""
    wide = np.random.default_rng(seed).integers(0, 256, (48, 64), dtype=np.uint8)
    return np.stack([wide[:, 8 - 2 * k : 56 - 2 * k] for k in range(3)])


@pytest.mark.parametrize("seed", SEEDS)
def test_what_moves_moves_as_before(seed: int) -> None:
    frames = moving(seed)
    after = retextured(np.random.default_rng(seed), frames)
    assert after.dtype == np.float32
    inside = slice(8, 40)
    for k in (1, 2):
        np.testing.assert_allclose(after[k, inside, 8 + 2 * k : 40 + 2 * k], after[0, inside, 8:40], atol=1e-2)
    assert after.mean() == pytest.approx(frames.mean(), abs=0.1)


def test_textures_differ() -> None:
    frames = moving(0)
    looks = [retextured(np.random.default_rng(seed), frames) for seed in SEEDS]
    apart = [np.abs(one - frames).mean() for one in looks]
    assert max(apart) > 40  # grey levels
    assert len({one.tobytes() for one in looks}) == len(SEEDS)
    flat = np.full((2, 16, 16), 7, np.uint8)
    assert np.allclose(retextured(np.random.default_rng(0), flat), 7)


def test_clips_get_them_only_if_asked(embedded_small: PreparedSet) -> None:
    def clips(textures: float) -> list[dict[str, torch.Tensor]]:
        given = embedded_small.videos, get_protocol("embedded-3"), "random", True
        chosen = ClipDataset(*given, seed=3, textures=textures)
        return [chosen[k] for k in range(len(chosen))]

    plain, some, all_of_them = clips(0), clips(0.5), clips(1)
    changed = [not torch.equal(a["frames"], b["frames"]) for a, b in zip(plain, some, strict=True)]
    assert 0 < sum(changed) < len(changed)
    for before, after in zip(plain, all_of_them, strict=True):
        assert not torch.equal(before["frames"], after["frames"])
        assert all(torch.equal(before[name], after[name]) for name in before if name != "frames")


def test_stills_get_them_only_if_asked(embedded_small: PreparedSet) -> None:
    plain, other = (StillDataset(embedded_small.videos, seed=3, textures=share) for share in (0, 1))
    for k in range(len(plain)):
        before, after = plain[k], other[k]
        assert not torch.equal(before["stills"], after["stills"])
        assert torch.equal(before["still_landmarks"], after["still_landmarks"])
