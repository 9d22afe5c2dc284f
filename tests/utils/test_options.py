"""One rule for lists on the command line of every program, and no option that is dropped silently."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from mol_fast.cli import run_program
from mol_fast.evaluate import Options as EvaluateOptions
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.options import gather_options


@dataclass(frozen=True)
class Options:
    data: tuple[Path, ...] = ()
    test_subjects: tuple[str, ...] = ()
    json: tuple[Path, ...] | None = None
    compare: tuple[Path, Path] | None = None
    quick: bool = False
    steps: int = 3


def parsed(argv: list[str]) -> Options:
    """What a program gets."""
    got: list[Options] = []

    def program(options: Options) -> None:
        got.append(options)

    assert run_program(program, argv, "test", "train") == 0
    return got[0]


A, B, C = Path("a"), Path("b,c"), Path("d")


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "a", "--data", "b,c", "d"],
        ["--data", "a", "b,c", "--steps", "3", "--data=d"],
        ["--data=a", "--data=b,c", "--data=d"],
    ],
)
def test_defect_13_repeated_lists_add_up_at_the_door(words: list[str]):
    assert parsed(words) == Options(data=(A, B, C))


@pytest.mark.parametrize(
    "words",
    [
        ["--test-subjects", "s1", "s2", "s3"],
        ["--test-subjects", "s1,s2", "s3"],
        ["--test-subjects=s1, s2,", "--test_subjects", "s3"],
        ["--test_subjects", "s1", "--quick", "--test-subjects", "s2,s3"],
    ],
)
def test_defect_13_words_of_a_list_are_split_at_the_door(words: list[str]):
    assert parsed(words).test_subjects == ("s1", "s2", "s3")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--steps", "1", "--steps", "2"], "--steps is given twice: give it once"),
        (["--steps=1", "--steps=1"], "--steps is given twice: give it once"),
        (["--quick", "--quick"], "--quick is given twice: give it once"),
        (["--quick", "--no-quick"], "--quick and --no-quick are given: give it once"),
        (["--compare", "a", "b", "--compare", "c", "d"], "--compare is given twice: give it once"),
        (["--data"], "--data is given without a value: give at least one, or omit it"),
        (["--data", ""], "--data is given without a value: give at least one, or omit it"),
        (["--test-subjects", ",", "--steps", "1"], "--test-subjects is given without a value"),
    ],
)
def test_defect_13_nothing_given_is_dropped_at_the_door(words: list[str], sentence: str):
    with pytest.raises(UserError, match=sentence):
        gather_options(words, _program)


def _program(options: Options) -> None: ...


def test_other_words_stay_as_they_are():
    words = ["video.mp4", "--json", "--unknown", "x", "--unknown", "y", "--steps", "-3", "-h"]
    assert gather_options(words, _program) == words


def _train(settings: TrainSettings) -> None: ...


def _evaluate(settings: EvaluateOptions) -> None: ...


def test_defect_13_programs_share_the_rule_at_the_door():
    train = ["--data", "A", "--data", "B", "--folds", "s1,s2", "--tasks", "mer", "flow"]
    assert gather_options(train, _train) == ["--data", "A", "B", "--folds", "s1", "s2", "--tasks", "mer", "flow"]
    assert gather_options(["--subjects", "a,b"], _evaluate) == ["--subjects", "a", "b"]


def test_defect_10_numbers_of_programs_are_bounded_at_the_door():
    for name in ("seeds", "steps", "batch_size", "workers", "warmup", "score_every", "checkpoint_every", "seed"):
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} must be from"):
            TrainSettings(**{name: 2**40}).check()
    with pytest.raises(UserError, match="--batch-size must be from"):
        EvaluateOptions(weights=Path("w"), batch_size=2**40).check()


def test_defect_13_options_outside_of_a_dataclass_at_the_door():
    from mol_fast.show import run

    assert gather_options(["a", "--window", "1"], run) == ["a", "--window", "1"]
    with pytest.raises(UserError, match="--window is given twice"):
        gather_options(["a", "--window", "1", "--window=2"], run)
