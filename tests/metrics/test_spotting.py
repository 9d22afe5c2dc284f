"""Scores of spotting, STRS and the MEGC log against cases worked out by hand, and intervals that cannot be."""

import pytest

from mol_fast.metrics import (
    Interval,
    Kind,
    SpottedVideo,
    check_intervals,
    kind_of,
    match_intervals,
    megc_log,
    spotting_scores,
    strs_score,
)
from mol_fast.utils.errors import UserError
from mol_fast.utils.intervals import overlap


def micro(*spans: tuple[int, int], kind: Kind = "micro", label: str | None = None) -> tuple[Interval, ...]:
    return tuple(Interval(onset, offset, kind, label=label) for onset, offset in spans)


def video(
    true: tuple[Interval, ...], found: tuple[Interval, ...], name: str = "v", frames: int = 1800, fps: float = 30.0
) -> SpottedVideo:
    return SpottedVideo(name, true, found, frames, fps)


STRS_EXAMPLE = [
    video(micro(true, label=true_label), micro(found, label=found_label))
    for found, found_label, true, true_label in (
        ((10, 70), "happiness", (45, 85), "happiness"),
        ((100, 170), "others", (130, 160), "others"),
        ((0, 70), "others", (20, 75), "others"),
        ((20, 90), "happiness", (45, 95), "repression"),
        ((70, 140), "happiness", (30, 140), "repression"),
    )
]


def test_strs_of_the_worked_example_is_a_fifth() -> None:
    score = strs_score(STRS_EXAMPLE)
    assert score.spotting == pytest.approx(0.6)
    assert score.recognition is not None
    assert score.recognition.uf1 == pytest.approx(1 / 3)
    assert score.strs == pytest.approx(0.2)


def test_strs_counts_the_kinds_it_is_asked_for() -> None:
    here = video((*micro((0, 10), label="a"), *micro((50, 90), kind="macro", label="a")), micro((0, 10), label="a"))
    assert strs_score([here], kinds=["micro"]).strs == 1
    assert strs_score([here]).strs == pytest.approx(2 / 3)
    nothing = strs_score([here], kinds=["macro"])
    assert (nothing.spotting, nothing.recognition, nothing.strs) == (0, None, 0)


def test_strs_needs_intervals_and_labels() -> None:
    with pytest.raises(ValueError, match="there is no interval to score"):
        strs_score([video((), ())])
    with pytest.raises(ValueError, match="the micro interval 0 to 10 has no label"):
        strs_score([video(micro((0, 10), label="a"), micro((0, 10)))])


def test_true_intervals_without_a_label_count_in_spotting_alone() -> None:
    true = (*micro((0, 10), label="a"), *micro((20, 30)))
    score = strs_score([video(true, micro((0, 10), (20, 30), (40, 50), label="a"))])
    assert (score.spotting, score.strs) == (pytest.approx(0.8), pytest.approx(0.8))


def test_overlap_counts_onset_and_offset() -> None:
    (a, b, c) = micro((0, 9), (5, 14), (10, 19))
    assert overlap(a, b) == pytest.approx(5 / 15)
    assert overlap(a, c) == 0
    assert overlap(a, a) == 1


def test_half_an_overlap_is_enough_and_less_is_not() -> None:
    true = micro((0, 19))
    for found, hit in (((0, 9), True), ((0, 8), False), ((10, 19), True), ((0, 39), True), ((0, 40), False)):
        assert (len(match_intervals(true, micro(found))) == 1) == hit


def test_each_true_interval_counts_once() -> None:
    scores = spotting_scores([video(micro((0, 19)), micro((0, 9), (10, 19)))])
    assert (scores.micro.hits, scores.micro.false, scores.micro.missed) == (1, 1, 0)


def test_f1_is_over_the_whole_set_by_kind() -> None:
    videos = [
        video((*micro((0, 10), (100, 110)), *micro((200, 250), kind="macro")), micro((0, 10), (300, 310))),
        video((), micro((0, 10)), frames=900),
        video(micro((5, 15)), micro((5, 15), kind="macro"), frames=900),
    ]
    scores = spotting_scores(videos)
    assert scores.micro.f1 == pytest.approx(2 / (2 + 2 + 2))
    assert scores.macro.f1 == 0
    assert scores.both.f1 == pytest.approx(2 / (2 + 3 + 3))
    assert scores.both.precision == pytest.approx(1 / 4)
    assert scores.both.recall == pytest.approx(1 / 4)
    assert scores.minutes == 2
    assert scores.found_per_minute == 2
    assert scores.false_per_minute == 1.5


def test_ratios_without_a_denominator_are_none() -> None:
    scores = spotting_scores([video((), ())])
    assert (scores.both.f1, scores.both.precision, scores.both.recall) == (None, None, None)
    assert spotting_scores([SpottedVideo("v", (), (), 1900, 30.0, first=100)]).minutes == 1
    with pytest.raises(ValueError, match="there is no video to score"):
        spotting_scores([])


def test_the_log_of_a_hand_made_example() -> None:
    videos = [
        video((*micro((40, 52)), *micro((200, 260), kind="macro")), micro((10, 20), (41, 55)), name="s15_0101"),
        video((), (), name="s16_0102"),
        video((), micro((0, 12)), name="s16_0505"),
    ]
    assert megc_log(videos) == (
        "s15_0101\n"
        "s15_0101\t-\t-\t10\t20\tFP\n"
        "s15_0101\t40\t52\t41\t55\tTP\n"
        "s15_0101\t200\t260\t-\t-\tFN\n"
        "s16_0102\n"
        "s16_0505\n"
        "s16_0505\t-\t-\t0\t12\tFP\n"
    )


@pytest.mark.parametrize(
    ("intervals", "problem"),
    [
        (micro((20, 10)), "20 to 10, which runs backwards"),
        (micro((-1, 10)), "-1 to 10, which starts before the video, whose first frame is 0"),
        (micro((90, 100)), "90 to 100, which ends after the video, whose last frame is 99"),
        ((Interval(10, 20, "micro", apex=21),), "10 to 20, which does not contain its apex 21"),
        (micro((20, 30), (5, 20)), "20 to 30, which overlaps the micro interval 5 to 20"),
    ],
)
def test_intervals_that_cannot_be_are_one_sentence(intervals: tuple[Interval, ...], problem: str) -> None:
    with pytest.raises(UserError) as error:
        check_intervals(intervals, 100, "the sheet")
    assert str(error.value) == f"the sheet has the micro interval {problem}; correct it or remove it"


def test_a_micro_interval_may_lie_in_a_macro_interval() -> None:
    check_intervals((*micro((10, 20)), *micro((0, 50), kind="macro"), Interval(21, 99, "micro", 99)), 100, "the sheet")


def test_bad_intervals_are_refused_before_they_are_scored() -> None:
    with pytest.raises(UserError, match="what was found in v has the micro interval 1700 to 1800"):
        video((), micro((1700, 1800)))
    with pytest.raises(ValueError, match="fps must be positive"):
        video((), (), fps=0)


def test_micro_lasts_at_most_half_a_second() -> None:
    assert [kind_of(seconds) for seconds in (0.1, 0.5, 0.501)] == ["micro", "micro", "macro"]
