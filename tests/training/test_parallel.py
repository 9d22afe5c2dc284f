"""Two processes, as torchrun starts them: folds shared, and batches split."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness import forks, split_batch
from harness.split_batch import step, uneven
from harness.trainings import light_main, options, outcome
from safetensors.torch import load_file

from mol_fast.data import PreparedSet
from mol_fast.nn.sync import BatchDropout
from mol_fast.train import main
from mol_fast.training.parallel import check_processes, own_share
from mol_fast.training.settings import TrainSettings

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TESTS = str(Path(__file__).parents[1])
EPS = torch.finfo(torch.float32).eps

pytestmark = pytest.mark.usefixtures("light")


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """Begin two processes as users do; what depends on torchrun itself needs that."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment["PYTHONPATH"] = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    pipe = subprocess.PIPE
    return subprocess.Popen([*TORCHRUN, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)


def run_two(main: Callable[[list[str]], int], folder: Path, *arguments: str) -> str:
    """What two processes print that have the variables of torchrun."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
    common |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    two = [
        forks.start(main, [*arguments], folder / f"printed-{rank}", common | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    assert [process.end() for process in two] == [0, 0], "".join(process.error for process in two)
    return "".join(process.out for process in two)


def losses(out: Path) -> list[dict[str, float]]:
    (path,) = out.glob("run/folds/*/metrics.csv")
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what two processes computed together."""
    folder = tmp_path_factory.mktemp("split")
    run_two(split_batch.main, folder, str(folder))
    return folder


def assert_whole(whole: dict[str, torch.Tensor], split: Path) -> None:
    found = load_file(split)
    assert whole.keys() == found.keys()
    for name, value in whole.items():
        size = float(value.double().norm())
        assert float((found[name] - value).double().norm()) <= 1e-9 * max(size, 1e-3), name


@pytest.mark.parametrize("norm_stats", ["frame", "clip"])
def test_a_split_step_is_the_whole_one(norm_stats: str, split: Path) -> None:
    """Loss, every gradient and every running statistic, in float64."""
    assert_whole(step(norm_stats), split / f"{norm_stats}.safetensors")


def test_defect_15_converted_sync_norms_of_uneven_batches_are_the_whole_one(split: Path) -> None:
    """`SyncBatchNorm.convert_sync_batchnorm` on F5C and on a layer of the flow head, one clip beside three."""
    assert_whole(uneven(), split / "uneven.safetensors")


def test_dropout_does_not_depend_on_the_memory_format() -> None:
    """So that the masks of a part and of the whole are the same, whatever layout a convolution chose for either."""
    layer, masks = BatchDropout(0.5), []
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        torch.manual_seed(0)
        masks.append(layer(torch.ones(2, 3, 4, 4, 5).contiguous(memory_format=memory_format)))
    assert torch.equal(*masks)


SPLIT = ("--batch-size", "2", "--steps", "6", "--selection", "test", "--score-every", "3", "--test-subjects", "s03")


@pytest.fixture(scope="module")
def split_run(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that split its batches."""
    out_folder = tmp_path_factory.mktemp("split")
    given = options(embedded_small, out_folder, *SPLIT, "--parallel", "batch")
    out = run_two(light_main, out_folder, *given)
    assert out.count("written to") == 1, "the first process alone writes and prints"
    return out_folder


def test_split_batches_have_the_losses_of_one_process(
    embedded_small: PreparedSet, split_run: Path, tmp_path: Path
) -> None:
    """Rounding of sums in another order: an error of a few float32 units in each of about 40 layers, and of its sums.

    From the second step on the weights differ, too, where a gradient is as small as its rounding error, and there
    alone; what they add to the loss is of second order in that error. So every step has the same bound.
    """
    assert main(options(embedded_small, tmp_path, *SPLIT)) == 0
    expected, found = losses(tmp_path), losses(split_run)
    assert len(expected) == len(found) == 6
    for row, wanted in zip(found, expected, strict=True):
        for name in ("total", "expression", "flow", "landmarks"):
            assert row[name] == pytest.approx(wanted[name], rel=64 * EPS), (row["step"], name)
    scores = [json.loads((path / "run/scores.json").read_text()) for path in (tmp_path, split_run)]
    confusion = [item["seeds"]["0"]["recognition"]["confusion"] for item in scores]
    assert confusion[0] == confusion[1]
    for name, item in scores[0]["statistics"].items():
        assert scores[1]["statistics"][name]["mean"] == pytest.approx(item["mean"], rel=1e-4), name
    assert scores[0]["chosen_on_test"]["steps"] == scores[1]["chosen_on_test"]["steps"]


def test_all_stop_after_the_same_step_and_go_on(embedded_small: PreparedSet, split_run: Path, tmp_path: Path) -> None:
    given = [*SPLIT, "--parallel", "batch"]
    process = torchrun("-m", "harness.trainings", *options(embedded_small, tmp_path, *given, "--checkpoint-every", "0"))
    metrics = tmp_path / next(split_run.glob("run/folds/*/metrics.csv")).relative_to(split_run)
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.terminate()
    _, error = process.communicate()
    assert process.returncode != 0
    (checkpoint,) = metrics.parent.glob("checkpoints/step-*.safetensors")
    assert f"stopped by SIGTERM after step {int(checkpoint.stem[5:])} of fold" in error
    run_two(light_main, tmp_path, *options(embedded_small, tmp_path, *given))
    assert outcome(tmp_path) == outcome(split_run)


def test_processes_that_communicate_share_folds(embedded_small: PreparedSet, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    more = ["--steps", "1", "--folds", "all", "--tasks", "mer"]
    assert light_main(options(embedded_small, one, *more)) == 0
    out = run_two(light_main, tmp_path, *options(embedded_small, two, *more))
    assert out.count("written to") == 1
    assert outcome(one) == outcome(two)


FAILING = """
import sys
from mol_fast.training import fold as fold_run
from mol_fast.train import main
from mol_fast.training.loop import LossNotFinite

fit = fold_run._fit

def failing(model, clips, settings, fabric, folder, *rest):
    if not folder.name.startswith("s02"):
        raise LossNotFinite(1)
    fit(model, clips, settings, fabric, folder, *rest)

fold_run._fit = failing
sys.exit(main())
"""


def test_a_failed_fold_leaves_others_their_work(embedded_small: PreparedSet, tmp_path: Path) -> None:
    """The first process fails in both of its folds at once; the other one finishes, then the first lists them."""
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    more = ["--steps", "1", "--folds", "all", "--tasks", "mer"]
    process = torchrun(str(script), *options(embedded_small, tmp_path, *more))
    _, error = process.communicate()
    assert process.returncode == 1
    assert error.count("the loss is not finite at step 1 of fold s01-seed0, step 1 of fold s03-seed0") == 1
    folds = tmp_path / "run/folds"
    assert [path.parent.name for path in sorted(folds.glob("*/scores.json"))] == ["s02-seed0"]


def test_what_processes_cannot_do(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    given = "--parallel", "batch", "--batch-size"
    assert main(options(embedded_small, tmp_path, *given, "6")) == 2
    assert "start them with torchrun" in capfd.readouterr().err
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert main(options(embedded_small, tmp_path, *given, "4")) == 2
    assert "--batch-size 4 cannot be split over 3 processes" in capfd.readouterr().err
    assert main(["--data", str(embedded_small.path), "--out", str(tmp_path)]) == 2
    assert "give --name" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
    assert own_share("abcdefg", TrainSettings()) == ["c", "f"]
    assert own_share("abcdefg", TrainSettings(parallel="batch")) == list("abcdefg")
    check_processes(TrainSettings(parallel="batch", name="run", batch_size=6))


def test_split_runs_have_an_identity_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = TrainSettings().identity()
    assert TrainSettings(parallel="batch").identity() == alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert TrainSettings().identity() == alone
    assert TrainSettings(parallel="batch").identity() == {**alone, "processes": 2}
