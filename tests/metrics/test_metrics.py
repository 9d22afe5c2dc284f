"""Scores against cases worked out by hand, and against the ratios of scikit-learn."""

import json
import math
from typing import Any

import pytest
import torch
from sklearn import metrics as sklearn
from torch import Tensor

from mol_fast import metrics

CLASSES = ("negative", "positive", "surprise")
COUNTS = [[5, 1, 0], [2, 3, 0], [0, 1, 4]]


def as_videos(counts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Labels and predictions with this confusion matrix."""
    pairs = [(t, p) for t, row in enumerate(counts) for p, n in enumerate(row) for _ in range(n)]
    labels, predicted = torch.tensor(pairs).T
    return labels, predicted


def face(x: float = 0.0, y: float = 0.0, distance: float = 20.0) -> Tensor:
    """68 points at (x, y) but the eyes, whose centres are ``distance`` apart; no two points of an eye coincide."""
    points = torch.zeros(68, 2)
    around = torch.tensor([-5.0, -3.0, -1.0, 1.0, 2.0, 6.0])
    points[36:42, 0] = around - distance / 2
    points[42:48, 0] = around + distance / 2
    return points + torch.tensor([x, y])


def batch(
    logits: list[list[float]],
    labels: list[int],
    videos: list[str],
    flow_error: float = 0.0,
    landmark_error: float = 0.0,
) -> dict[str, Any]:
    """Arguments of `Evaluation.update`: true flow is (3, 4) px, both errors are along x in px."""
    size = len(videos)
    flow_true = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1, 1).expand(size, 2, 7, 4, 5)
    landmarks_true = face().expand(size, 7, 68, 2)
    return {
        "logits": torch.tensor(logits, dtype=torch.float32).view(size, -1),
        "labels": torch.tensor(labels),
        "videos": videos,
        "flow": flow_true + torch.tensor([flow_error, 0.0]).view(1, 2, 1, 1, 1),
        "flow_true": flow_true,
        "landmarks": landmarks_true + torch.tensor([landmark_error, 0.0]),
        "landmarks_true": landmarks_true,
    }


def test_confusion_matrix_has_true_rows() -> None:
    labels, predicted = as_videos(COUNTS)
    confusion = metrics.confusion_matrix(predicted, labels, 3)
    assert confusion.tolist() == COUNTS
    assert confusion.dtype == torch.int64


def test_recognition_by_hand() -> None:
    scores = metrics.recognition_scores(torch.tensor(COUNTS), CLASSES)
    f1 = [10 / 13, 6 / 10, 8 / 9]
    assert scores.classes == CLASSES
    assert scores.confusion == ((5, 1, 0), (2, 3, 0), (0, 1, 4))
    assert scores.accuracy == 12 / 16
    assert scores.uar == pytest.approx((5 / 6 + 3 / 5 + 4 / 5) / 3, abs=1e-15)
    assert scores.uf1 == pytest.approx(sum(f1) / 3, abs=1e-15)
    assert scores.wf1 == pytest.approx((6 * f1[0] + 5 * f1[1] + 5 * f1[2]) / 16, abs=1e-15)
    first = scores.per_class[0]
    assert (first.name, first.videos, first.predicted) == ("negative", 6, 7)
    assert (first.recall, first.precision, first.f1) == (5 / 6, 5 / 7, f1[0])


def test_class_that_never_occurs_is_left_out() -> None:
    scores = metrics.recognition_scores(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), CLASSES)
    absent = scores.per_class[2]
    assert (absent.recall, absent.precision, absent.f1) == (None, None, None)
    assert scores.uf1 == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert scores.uar == pytest.approx((3 / 4 + 1) / 2)
    assert scores.wf1 == pytest.approx((4 * 6 / 7 + 2 * 4 / 5) / 6)


def test_class_predicted_but_never_true_counts_in_uf1_only() -> None:
    scores = metrics.recognition_scores(torch.tensor([[3, 0, 1], [0, 2, 0], [0, 0, 0]]), CLASSES)
    wrong = scores.per_class[2]
    assert (wrong.recall, wrong.precision, wrong.f1) == (None, 0.0, 0.0)
    assert scores.uf1 == pytest.approx((6 / 7 + 1 + 0) / 3)
    assert scores.uar == pytest.approx((3 / 4 + 1) / 2)


def test_ratios_are_those_of_scikit_learn() -> None:
    drawn = torch.randint(3, (20, 2, 6), generator=torch.Generator().manual_seed(0)).unbind()
    by_hand = [as_videos(counts) for counts in (COUNTS, [[3, 1, 0], [0, 2, 0], [0, 0, 0]])]
    for labels, predicted in [*drawn, *by_hand]:
        scores = metrics.recognition_scores(metrics.confusion_matrix(predicted, labels, 3), CLASSES)
        assert scores.accuracy == pytest.approx(sklearn.accuracy_score(labels, predicted))
        assert scores.uf1 == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"))
        assert scores.wf1 == pytest.approx(sklearn.f1_score(labels, predicted, average="weighted"))
        present = labels.unique()
        recall = sklearn.recall_score(labels, predicted, average="macro", labels=present)
        assert scores.uar == pytest.approx(recall)


def test_many_confusion_matrices_at_once() -> None:
    counts = torch.randint(4, (5, 7, 3, 3), generator=torch.Generator().manual_seed(0))
    counts[..., 0, 1] += 1
    counts[0, 0, 2, :] = counts[0, 0, :, 2] = 0
    ratios = metrics.recognition_ratios(counts.numpy())
    assert ratios.uf1.shape == (5, 7)
    for place in ((0, 0), (0, 3), (4, 6)):
        one = metrics.recognition_scores(counts[place], CLASSES)
        assert [float(values[place]) for values in ratios] == [one.accuracy, one.uf1, one.uar, one.wf1]


def test_recognition_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="3 classes"):
        metrics.recognition_scores(torch.ones(2, 2, dtype=torch.int64), CLASSES)
    with pytest.raises(ValueError, match="no videos"):
        metrics.recognition_scores(torch.zeros(3, 3, dtype=torch.int64), CLASSES)


def test_video_scores_are_means_in_order_of_appearance() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.4, 0.6]])
    names, means = metrics.video_scores(probabilities, ["b", "a", "b", "b"])
    assert names == ["b", "a"]
    torch.testing.assert_close(means, torch.tensor([[0.6, 0.4], [0.2, 0.8]], dtype=torch.float64))
    names, means = metrics.video_scores(probabilities, [7, 7, 7, 2])
    assert names == [7, 2]
    torch.testing.assert_close(means[1], torch.tensor([0.4, 0.6], dtype=torch.float64))
    with pytest.raises(ValueError, match="3 windows"):
        metrics.video_scores(probabilities, ["a", "b", "c"])


def test_windows_are_averaged_as_probabilities() -> None:
    """Neither the majority of windows nor the mean logit decides."""
    evaluation = metrics.Evaluation(("a", "b"))
    sure, unsure = [5.0, 0.0], [0.0, 0.4]  # 0.993 for a, 0.599 for b: mean 0.532 for a
    evaluation.update(**batch([sure, unsure, unsure], [0, 0, 0], ["majority"] * 3))
    evaluation.update(**batch([[10.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], [1, 1, 1, 1], ["logits"] * 4))
    majority, logits = evaluation.videos()
    assert (majority.video, majority.label, majority.predicted, majority.windows) == ("majority", 0, 0, 3)
    p_unsure = 1 / (1 + math.exp(-0.4))
    assert majority.probabilities[1] == pytest.approx((1 / (1 + math.exp(5)) + 2 * p_unsure) / 3, abs=1e-7)
    assert logits.predicted == 1  # the mean logit, (2.5, 1.5), says a
    assert evaluation.compute().recognition.accuracy == 1


def test_long_videos_do_not_count_more() -> None:
    evaluation = metrics.Evaluation(("a", "b"))
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    evaluation.update(**batch([right] * 9 + [wrong], [0] * 10, ["long"] * 9 + ["short"]))
    assert evaluation.compute().recognition.accuracy == 0.5


def test_folds_are_pooled_not_averaged() -> None:
    evaluation = metrics.Evaluation(("a", "b"))
    a, b = [1.0, 0.0], [0.0, 1.0]
    evaluation.update(**batch([a, a, b], [0, 0, 1], ["s1/1", "s1/2", "s1/3"]))  # UF1 1
    evaluation.update(**batch([b], [0], ["s2/1"]))  # UF1 0
    scores = evaluation.compute()
    assert scores.recognition.confusion == ((2, 1), (0, 1))
    assert scores.recognition.uf1 == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_batches_do_not_matter() -> None:
    torch.manual_seed(0)
    parts = {
        "logits": torch.randn(12, 3),
        "flow": torch.randn(12, 2, 7, 6, 5),
        "flow_true": torch.randn(12, 2, 7, 6, 5).half(),
        "landmarks": torch.randn(12, 7, 68, 2),
        "landmarks_true": torch.randn(12, 7, 68, 2),
    }
    videos = torch.tensor([0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
    whole, split = metrics.Evaluation(CLASSES), metrics.Evaluation(CLASSES)
    whole.update(labels=videos, videos=videos.tolist(), **parts)
    for part in torch.arange(12).split(5):
        split.update(labels=videos[part], videos=videos[part].tolist(), **{k: v[part] for k, v in parts.items()})
    one, other = whole.compute(), split.compute()
    assert one.recognition == other.recognition
    assert one.flow.moving_error == pytest.approx(other.flow.moving_error, rel=1e-12)
    assert one.flow.moving_pixels == other.flow.moving_pixels
    assert one.landmarks.error == pytest.approx(other.landmarks.error, rel=1e-12)


def test_scores_of_flow_and_landmarks_by_hand() -> None:
    evaluation = metrics.Evaluation(("a", "b"))
    evaluation.update(**batch([[1.0, 0.0]], [0], ["x"], flow_error=1.0, landmark_error=1.0))
    evaluation.update(**batch([[1.0, 0.0]], [0], ["y"], flow_error=-2.0, landmark_error=3.0))
    scores = evaluation.compute()
    assert scores.flow == metrics.FlowScores(1.5, 5.0, 1.5, 5.0, pixels=280, moving_pixels=280)
    assert scores.landmarks.error == pytest.approx((5 + 15) / 2)  # 1 and 3 px of 20
    assert scores.landmarks.failure_rate == 0.5
    assert scores.landmarks.frames == 14
    assert json.loads(json.dumps(scores.to_dict()))["flow"]["zero_error"] == 5.0


def test_flow_error_over_moving_pixels() -> None:
    true = torch.zeros(1, 2, 1, 4)
    true[0, 0, 0] = torch.tensor([0.0, 0.0999, 0.1001, 0.0])
    true[0, 1, 0, 3] = -4.0
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([0.5, 0.0999, 0.1001, 3.0])
    scores = metrics.flow_sums(flow, true).scores()
    assert scores.error == pytest.approx((0.5 + 5) / 4)
    assert scores.zero_error == pytest.approx((0.0999 + 0.1001 + 4) / 4)
    assert scores.moving_pixels == 2
    assert scores.moving_error == pytest.approx(5 / 2)
    assert scores.moving_zero_error == pytest.approx(4.1001 / 2)


def test_still_flow_has_no_moving_error() -> None:
    scores = metrics.flow_sums(torch.ones(2, 2, 3, 3), torch.zeros(2, 2, 3, 3)).scores()
    assert scores.error == pytest.approx(math.sqrt(2))
    assert (scores.moving_error, scores.moving_zero_error, scores.moving_pixels) == (None, None, 0)


def test_flow_is_summed_in_float64() -> None:
    true = torch.zeros(1, 2, 512, 512)
    flow = true.clone()
    flow[:, 0] = 0.1
    sums = metrics.flow_sums(flow, true) + metrics.flow_sums(flow[..., :7], true[..., :7])
    assert sums.pixels == 512 * 519
    assert sums.error == pytest.approx(512 * 519 * float(torch.tensor(0.1)), rel=1e-12)


def test_landmark_error_uses_the_true_eyes() -> None:
    true = torch.stack([face(distance=20), face(3, -7, distance=50)])
    predicted = true + torch.tensor([3.0, 4.0])
    predicted[:, 36:48] *= 1.5
    errors = metrics.landmark_errors(predicted, true)
    distances = torch.linalg.vector_norm(predicted - true, dim=-1).mean(-1)
    torch.testing.assert_close(errors, (100 * distances / torch.tensor([20.0, 50.0])).double())


def test_failure_is_a_mean_error_over_ten_percent() -> None:
    true = face(distance=20).expand(3, 68, 2)
    predicted = true + torch.tensor([[1.99, 0], [2.0, 0], [2.001, 0]])[:, None]
    sums = metrics.landmark_sums(predicted.double(), true.double())
    assert (sums.failures, sums.frames) == (1, 3)
    predicted = true.clone()
    predicted[0, 0, 0] += 100  # one point far off, mean error 1.47 px
    assert metrics.landmark_sums(predicted, true).failures == 0


def bad(**changes: Any) -> dict[str, Any]:
    return batch([[1.0, 0.0]] * 2, [0, 0], ["x", "y"]) | changes


NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (bad(logits=torch.zeros(2, 3)), "logits"),
        (bad(logits=torch.full((2, 2), NAN)), "logits"),
        (bad(labels=torch.tensor([0, 2])), "label 2 of video y"),
        (bad(labels=torch.tensor([0, -1])), "label -1 of video y"),
        (bad(videos=["x"]), "1 videos"),
        (bad(videos=["x", "x"], labels=torch.tensor([0, 1])), "video x has two labels"),
        (bad(labels=torch.tensor([0, 1]), videos=["x", "z"], flow=torch.zeros(2, 2, 7, 4, 4)), "flow"),
        (bad(flow=torch.full((2, 2, 7, 4, 5), NAN)), "flow"),
        (bad(landmarks=torch.zeros(2, 8, 68, 2)), "landmarks"),
        (bad(landmarks=torch.full((2, 7, 68, 2), NAN)), "landmarks"),
        (bad(landmarks_true=torch.zeros(2, 7, 68, 2)), "eyes"),
    ],
)
def test_a_bad_batch_is_refused_whole(arguments: dict[str, Any], message: str) -> None:
    evaluation = metrics.Evaluation(("a", "b"))
    evaluation.update(**batch([[1.0, 0.0]], [0], ["x"]))
    before = (evaluation.videos(), evaluation.compute())
    with pytest.raises(ValueError, match=message):
        evaluation.update(**arguments)
    assert (evaluation.videos(), evaluation.compute()) == before
    evaluation.update(**batch([[1.0, 0.0]], [1], ["z"]))


def test_tasks_that_are_not_predicted_have_no_scores() -> None:
    evaluation = metrics.Evaluation(("a", "b"))
    evaluation.update(**batch([[1.0, 0.0]], [0], ["x"]) | {"flow": None, "landmarks": None})
    scores = evaluation.compute()
    assert (scores.flow, scores.landmarks) == (None, None)
    assert scores.recognition.accuracy == 1
    assert json.loads(json.dumps(scores.to_dict()))["flow"] is None
    evaluation.update(**batch([[1.0, 0.0]], [0], ["y"]) | {"flow": None})
    scores = evaluation.compute()
    assert scores.flow is None
    assert scores.landmarks is not None
    assert scores.landmarks.frames == 7


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="no videos"):
        metrics.Evaluation(CLASSES).compute()
    with pytest.raises(ValueError, match="no flow"):
        metrics.FlowSums().scores()
    with pytest.raises(ValueError, match="no landmarks"):
        metrics.LandmarkSums().scores()
