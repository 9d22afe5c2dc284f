"""Class imbalance: equal shares by weights or by draws, repeatable, and classes without a clip to learn from."""

import shutil
from collections import Counter
from itertools import combinations, islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness.compare import seeded
from harness.trainings import options, outcome
from torch import Tensor

from mol_fast import JointLoss, MOLOutput
from mol_fast.data import ClipDataset, PreparedSet, get_protocol, write_index
from mol_fast.train import main
from mol_fast.training.balance import balanced_order, class_counts, class_weights
from mol_fast.training.loop import batches
from mol_fast.training.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("light")

LABELS = [0] * 13 + [2] * 5 + [3] * 2


def draws(seed: int) -> list[tuple[int, int]]:
    return [(index, draw) for index, draw in balanced_order(LABELS, torch.Generator().manual_seed(seed)).tolist()]


def order(seed: int) -> list[int]:
    return [index for index, _ in draws(seed)]


def test_weights_give_each_class_the_same_share() -> None:
    counts = [13, 0, 5, 2]
    weights = class_weights(counts)
    assert weights.tolist() == pytest.approx([20 / 39, 0, 20 / 15, 20 / 6])
    assert float(weights @ torch.tensor(counts, dtype=torch.float32)) == pytest.approx(20)


def test_weighted_loss_is_that_of_the_formula() -> None:
    logits, labels = seeded(20, 4), torch.tensor(LABELS)
    weights = class_weights([13, 0, 5, 2])
    zeros = torch.zeros(20, 8, 68, 2)
    terms = JointLoss(class_weights=weights)(MOLOutput(logits), labels, zeros, zeros)
    per_class = [F.cross_entropy(logits[labels == label], labels[labels == label]) for label in (0, 2, 3)]
    torch.testing.assert_close(terms.expression, torch.stack(per_class).mean())
    same = JointLoss(class_weights=torch.ones(4))(MOLOutput(logits), labels, zeros, zeros)
    torch.testing.assert_close(same.expression, F.cross_entropy(logits, labels))


def test_draws_are_equal_and_in_rounds() -> None:
    drawn = order(0)
    assert len(drawn) == 20
    assert sorted(Counter(LABELS[index] for index in drawn).values()) == [6, 7, 7]
    for label in (0, 2, 3):
        times = Counter(index for index in drawn if LABELS[index] == label)
        members = [index for index, other in enumerate(LABELS) if other == label]
        assert max(times.values()) - min(times[index] for index in members) <= 1
    assert sorted(draws(0)) == sorted((index, draw) for index in set(drawn) for draw in range(drawn.count(index)))
    assert drawn == order(0) != order(1)
    seen = {index for seed in range(20) for index in order(seed)}
    assert seen == set(range(20))


def test_batches_go_on_where_they_stopped(embedded_small: PreparedSet) -> None:
    protocol = get_protocol("embedded-3")
    clips = ClipDataset(embedded_small.videos, protocol, "random", True, 0)
    settings = TrainSettings(batch_size=4, balance="sampler")
    labels = torch.cat([batch["label"] for batch in islice(batches(clips, settings), len(clips) // 4)])
    counts = torch.bincount(labels, minlength=3)
    plain = torch.tensor(class_counts(clips))
    assert counts.max() - counts.min() <= 1 + len(clips) % 4
    assert plain.max() - plain.min() > 1 + len(clips) % 4
    seen: dict[tuple[int, int], list[Tensor]] = {}
    for batch in islice(batches(clips, settings), len(clips) // 4):
        for video, window, landmarks in zip(*(batch[name] for name in ("video", "window", "landmarks")), strict=True):
            seen.setdefault((int(video), int(window)), []).append(landmarks)
    again = [pair for draws_of_one in seen.values() for pair in combinations(draws_of_one, 2)]
    assert again
    assert not any(torch.equal(*pair) for pair in again), "one crop for two draws"
    whole = [batch["frames"] for batch in islice(batches(clips, settings), 7)]
    rest = [batch["frames"] for batch in islice(batches(clips, settings, 3), 4)]
    assert all(torch.equal(*pair) for pair in zip(whole[3:], rest, strict=True))


def balanced(prepared: PreparedSet, out: Path, balance: str) -> dict[str, object]:
    assert main(options(prepared, out, "--tasks", "mer", "--steps", "2", "--balance", balance)) == 0
    return outcome(out)


@pytest.fixture(scope="module")
def plain(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return balanced(embedded_small, tmp_path_factory.mktemp("plain"), "none")


@pytest.mark.parametrize("balance", ["loss", "sampler"])
def test_balanced_runs_repeat(
    embedded_small: PreparedSet, plain: dict[str, object], tmp_path: Path, balance: str
) -> None:
    first, second = (balanced(embedded_small, tmp_path / name, balance) for name in "ab")
    assert first == second != plain


def test_a_class_without_clips_is_said(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only one subject is left to train, of whose videos the surprised ones are taken away."""
    folder = tmp_path / "set"
    shutil.copytree(embedded_small.path, folder)
    first = embedded_small.subjects[0]
    prepared = PreparedSet.open(folder)
    surprised = [video for video in prepared.videos if (video.subject, video.label) == (first, "surprise")]
    assert surprised
    write_index(folder, [video for video in prepared.videos if video not in surprised], {"name": "set"})
    more = ["--data", str(folder), "--protocol", "embedded-3", "--tasks", "mer", "--steps", "1", "--balance", "loss"]
    assert main(options(embedded_small, tmp_path / "out", *more)) == 0
    assert "there is no clip of surprise to learn from" in capfd.readouterr().err
