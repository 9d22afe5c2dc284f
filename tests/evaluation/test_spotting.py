"""Spotting and recognition of recordings: whose weights, which class, which scores, which files."""

import json
import shlex
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from harness.sharing import made_once

from mol_fast.data import PreparedSet, generate_long, generate_long_set
from mol_fast.data.recordings import Movement, Recording, open_recordings
from mol_fast.evaluate import main
from mol_fast.evaluation.spotting import LongResults, Recogniser, find_recognisers
from mol_fast.metrics import Interval
from mol_fast.report.spotting import print_spotting
from mol_fast.train import _tell_of_recordings
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject

CLASSES = ("negative", "positive", "surprise")


@pytest.fixture(scope="session")
def long_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of subjects of the embedded set; tests must not change it."""
    make = partial(generate_long_set, subjects=[0, 1], seconds=6, fps=15)
    return made_once(tmp_path_factory, "long-set", make)


def test_an_embedded_long_set_is_a_prepared_set(long_set: Path) -> None:
    recordings, videos = open_recordings(long_set), PreparedSet.open(long_set).videos
    assert [(item.subject, item.frames, item.fps) for item in recordings] == [("s01", 90, 15), ("s02", 90, 15)]
    assert sum(len(item.movements) for item in recordings) == len(videos) >= 1
    for video in videos:
        video.check()
    for number, item in enumerate(recordings):
        exact = generate_long(number, seconds=6, fps=15).landmarks(0, item.frames)
        assert float((item.read().landmarks - exact).std()) == pytest.approx(0.3, rel=0.02)
    with pytest.raises(UserError, match="is not empty; give a new one"):
        generate_long_set(long_set, [0], 1)


def test_spotting_is_scored_and_recognised_by_folds(
    long_set: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--spotting", str(long_set), "--weights", str(finished_run), "--out", str(out), "--device", "cpu"]
    assert main(options) == 0
    told = json.loads((out / "spotting.json").read_text())
    recordings = open_recordings(long_set)
    for recording, item in zip(recordings, told["recordings"], strict=True):
        assert [one["seed"] for one in item["classes"]] == [0, 1]
        for one in item["classes"]:
            assert {name: len(found) for name, found in item["found"].items()} == {
                name: len(labels) for name, labels in one.items() if name != "seed"
            }
            assert {*one["spotter"], *one["main direction"]} <= {*CLASSES}
        weights = [item for item in told["weights"] if f"/{recording.subject}-seed" in item["file"]]
        assert sorted(item["seed"] for item in weights) == [0, 1]
    assert told["methods"]["spotter"]["minutes"] == pytest.approx(0.2)
    lines = (out / "megc_spotting.log").read_text().splitlines()
    assert [line for line in lines if "\t" not in line] == [item.name for item in recordings]
    printed = capsys.readouterr()
    assert "STRS micro" in printed.out
    assert "synthetic data" in printed.out
    assert main([*options[:3], str(finished_run / "folds/s01-seed0"), *options[4:]]) == 2
    assert "holds results of another evaluation" in capsys.readouterr().err


def interval(onset: int, offset: int, label: str | None = None, kind: str = "micro") -> Interval:
    return Interval(onset, offset, kind, label=label)  # type: ignore[arg-type]


@pytest.fixture
def results() -> LongResults:
    """Two of three micro-expressions are found, one with the right class; the third is left out by the protocol."""
    true = [(interval(10, 20, "disgust"), interval(40, 50, "happiness")), (interval(10, 20, "others"),)]
    found = [(interval(11, 20), interval(41, 50), interval(70, 75)), (interval(10, 20),)]
    recordings = tuple(
        Recording(subject, "a", "casme2", 5, 900, 30.0, Path("a"), tuple(map(Movement, of)))
        for subject, of in zip(("s1", "s2"), true, strict=True)
    )
    recogniser = Recogniser(
        0, Path("w"), CLASSES, "casme2-3", frozenset(Subject("casme2", name) for name in ("s1", "s2"))
    )
    labels = {
        0: {"spotter": ("negative", "surprise", "positive"), "main direction": ()},
        1: {"spotter": ("positive",), "main direction": ()},
    }
    spotted = tuple({"spotter": of, "main direction": ()} for of in found)
    return LongResults(recordings, spotted, (recogniser,), (labels,))


def test_scores_worked_out_by_hand(results: LongResults, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F1 = 6 / 7. Recognition of two: negative 1, positive 0, surprise 0, so UF1 = 1 / 3."""
    scores = results.spotting("spotter")
    assert (scores.micro.hits, scores.micro.false, scores.micro.missed) == (3, 1, 0)
    assert (scores.minutes, scores.found_per_minute) == (1, 4)
    strs = results.strs("spotter", ("micro",))[0]
    assert strs.spotting == pytest.approx(6 / 7)
    assert strs.recognition is not None
    assert strs.recognition.uf1 == pytest.approx(1 / 3)
    assert strs.strs == pytest.approx(2 / 7)
    assert results.strs("main direction", ("micro",))[0].strs == 0
    assert results.strs("spotter", ("macro",)) == {}
    results.write(tmp_path)
    assert (tmp_path / "megc_spotting.log").read_text() == (
        "s1_a\ns1_a\t10\t20\t11\t20\tTP\ns1_a\t40\t50\t41\t50\tTP\ns1_a\t-\t-\t70\t75\tFP\n"
        "s2_a\ns2_a\t10\t20\t10\t20\tTP\n"
    )
    assert (tmp_path / "megc_spotting_baseline.log").read_text().count("\tFN\n") == 3
    print_spotting(results)
    printed = capsys.readouterr().out
    assert "3, 1, 0" in printed
    assert "0.286" in printed
    assert "synthetic data" not in printed
    print_spotting(replace(results, recordings=tuple(replace(item, source="heads") for item in results.recordings)))
    assert "synthetic data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("protocol", "label", "expected"),
    [
        ("casme2-3", "disgust", "negative"),
        ("casme2-3", "others", None),
        ("casme2-3", "unheard of", None),
        ("megc2019", "happiness", "positive"),
        ("labels", "surprise", "surprise"),
        ("labels", "disgust", None),
        (None, None, None),
    ],
)
def test_the_class_of_a_label(
    results: LongResults, protocol: str | None, label: str | None, expected: str | None
) -> None:
    recogniser = replace(results.recognisers[0], protocol=protocol)
    assert recogniser.class_of(results.recordings[0], label) == expected
    other = replace(results.recordings[0], source="elsewhere")
    assert replace(recogniser, protocol="megc2019").class_of(other, "happiness") is None


def test_subjects_are_recognised_by_weights_that_do_not_know_them(long_set: Path, finished_run: Path) -> None:
    recordings = open_recordings(long_set)
    found, warnings = find_recognisers(finished_run, recordings)
    assert not warnings
    assert {(item.seed, item.file.parent.name, *(one.name for one in item.subjects)) for item in found} == {
        (seed, f"{name}-seed{seed}", name) for seed in (0, 1) for name in ("s01", "s02")
    }
    fold = finished_run / "folds/s01-seed0"
    (one,), warnings = find_recognisers(fold, recordings)
    assert [item.name for item in one.subjects] == ["s01"]
    assert warnings == ["All weights were trained on s02: STRS is without these subjects."]
    with pytest.raises(UserError, match="was trained on all 1 subjects of the recordings"):
        find_recognisers(finished_run / "folds/s03-seed0", recordings[:1])
    stranger = replace(recordings[0], subject="s99")
    found, _ = find_recognisers(finished_run, [stranger])
    assert [(item.seed, len(item.subjects)) for item in found] == [(0, 1), (1, 1)]


def test_a_training_names_the_command_that_scores_spotting(
    long_set: Path, embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainSettings(data=(embedded_small.path, long_set))
    _tell_of_recordings(settings, Path("runs/of a day"))
    told, _, command = capsys.readouterr().out.partition(": python -m mol_fast.evaluate ")
    assert told == f"{long_set} has long videos"
    assert shlex.split(command) == ["--spotting", str(long_set), "--weights", "runs/of a day"]
    _tell_of_recordings(replace(settings, model=("majority",)), Path("runs/of a day"))
    assert capsys.readouterr().out == ""


def test_folds_without_scores_are_not_used(long_set: Path, finished_run: Path, tmp_path: Path) -> None:
    """Weights from before a loss that was not finite, or of a training that was killed while it was scored."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "folds/s01-seed0/scores.json").unlink()
    found, warnings = find_recognisers(run, open_recordings(long_set))
    assert warnings == ["Folds that are not finished are not used: s01-seed0."]
    assert {(item.file.parent.name, *(one.name for one in item.subjects)) for item in found} == {
        ("s02-seed0", "s02"),
        ("s01-seed1", "s01"),
        ("s02-seed1", "s02"),
    }
    for scores in run.glob("folds/*/scores.json"):
        scores.unlink()
    with pytest.raises(UserError, match=r"no fold of .* is finished: repeat its train command, which resumes it"):
        find_recognisers(run, open_recordings(long_set))


def test_a_folder_beside_the_folds_is_one_sentence(results: LongResults, tmp_path: Path) -> None:
    file = tmp_path / "folds" / "backup" / "weights.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(UserError, match=r"is of no fold \(the fold backup does not end with a seed\): move its folder"):
        find_recognisers(tmp_path, results.recordings)


def test_a_set_without_recordings_is_one_sentence(
    embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--spotting", str(embedded_small.path)]) == 2
    assert "has no long videos: give a set such as prepare samm-lv makes" in capsys.readouterr().err
    assert main(["--spotting", str(embedded_small.path), "--partial"]) == 2
    assert "--partial does not apply to --spotting: omit it" in capsys.readouterr().err
