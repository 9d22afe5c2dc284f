"""Hooks and shared fixtures of the whole test suite."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from harness.lanes import (
    LANES,
    pytest_configure,
    pytest_runtest_protocol,
    pytest_sessionfinish,
    skip_unfit,
)
from harness.sharing import made_once

from mol_fast import MOL, functional
from mol_fast.data import PreparedSet, generate_embedded
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.finders import open_finder

__all__ = ["pytest_configure", "pytest_runtest_protocol", "pytest_sessionfinish"]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Give whole files to the workers of `pytest -n`, in our order: lanes and fixtures are made once for a file."""
    if config.getoption("numprocesses", None) and config.getoption("dist") == "no":
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False


LONGEST = (
    "benchmarks/test_gpu_session.py",
    "training/test_parallel.py",
    "training/test_compile.py",
    "kernels/test_aot.py",
    "nn/test_f5c_compiled.py",
    "programs/test_prepare.py",
    "training/test_folds.py",
    "data/test_embedded.py",
    "programs/test_export.py",
    "vision/test_tvl1.py",
    "kernels/test_prepared.py",
    "kernels/test_fcc.py",
    "kernels/test_every_operator.py",
)
"""Files that take minutes. They come first, so that no worker is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip_unfit(items)
    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Workers of `pytest -n auto`: each takes about two GiB."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def nothing_prepared() -> None:
    """Every test checks its own arguments and prepares its own launches: some change what decides about them."""
    functional._passed.clear()
    if "mol_fast.kernels.prepared" in sys.modules:
        sys.modules["mol_fast.kernels.prepared"].plan.cache_clear()


@pytest.fixture(autouse=True)
def interpreter(request: pytest.FixtureRequest) -> Iterator[None]:
    """Triton's interpreter as the lane of the test needs it."""
    with ExitStack() as stack:
        if any(request.node.get_closest_marker(lane) for lane, flag in LANES.items() if flag == "1"):
            from harness.quick import quick_interpreter

            stack.enter_context(quick_interpreter())
        if request.node.get_closest_marker("emulated"):
            from harness.emulation import emulation

            stack.enter_context(emulation())
        yield


@pytest.fixture(scope="session")
def embedded_small(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """An embedded set of 3 subjects with one video of each of the 5 emotions; tests must not change it."""
    make = partial(generate_embedded, subjects=3, repeats=1)
    return PreparedSet.open(made_once(tmp_path_factory, "embedded-small", make))


@pytest.fixture(scope="session")
def finished_run(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that holds out every subject in turn, with two seeds and one step; tests must not change it."""
    from harness.trainings import every_fold

    return made_once(tmp_path_factory, "finished", partial(every_fold, embedded_small)) / "run"


@pytest.fixture
def general(finished_run: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of weights that stand in for those that come with mol-fast; they have not seen subject s01."""
    model = MOL.from_pretrained(finished_run / "folds" / "s01-seed0")
    file = model.save_pretrained(tmp_path_factory.mktemp("general"), half=True)
    monkeypatch.setattr("mol_fast.nn.locate._SHIPPED", (file, file_sha256(file)))
    return file


@pytest.fixture(scope="session")
def uninterrupted(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run of `harness.trainings.start`, which nothing interrupted; tests must not change it."""
    from harness.trainings import whole

    return made_once(tmp_path_factory, "uninterrupted", partial(whole, embedded_small))


@pytest.fixture(scope="module")
def light() -> Iterator[None]:
    """The trainings of a module are those of `harness.trainings.light`, as those of the two runs above."""
    from harness.trainings import light

    with light():
        yield


@pytest.fixture(scope="session")
def finder() -> FaceFinder:
    """The default finder of faces. Its models are fetched once for all sessions; without network, it skips the test."""
    try:
        return open_finder()
    except UserError as error:
        pytest.skip(str(error))
