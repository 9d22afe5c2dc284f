"""Rooms import from lower layers only, without circles, and every folder is packaged."""

import shutil
from pathlib import Path

import pytest
from harness.rooms import LONGEST, House

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The checkout without what no check reads."""
    for folder in ("mol_fast", "kernels", "reference"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_house_stands() -> None:
    house = House(ROOT)
    assert house.problems() == []
    assert len(house.longest_chain()) <= LONGEST, house.longest_chain()


@pytest.mark.parametrize(
    ("file", "line", "problem"),
    [
        (
            "mol_fast/metrics/flow.py",
            "from mol_fast.runs.sample import Sample",
            "mol_fast.metrics.flow imports mol_fast.runs.sample: metrics must not import runs",
        ),
        (
            "mol_fast/data/store.py",
            "from mol_fast.runs import folder",
            "mol_fast.data.store imports mol_fast.runs.folder: data must not import runs",
        ),
        (
            "mol_fast/evaluate.py",
            "import mol_fast.reference.fcc",
            "mol_fast.evaluate imports mol_fast.reference.fcc: evaluate must not import reference",
        ),
        (
            "kernels/common.py",
            "from .. import functional",
            "mol_fast.kernels.common imports mol_fast.functional: kernels must not import functional",
        ),
        (
            "mol_fast/utils/files.py",
            "from mol_fast import UserError",
            "mol_fast.utils.files imports mol_fast: utils must not import the package itself",
        ),
        (
            "mol_fast/vision/ibug.py",
            "def later():\n    from mol_fast.vision.align import eye_centres",
            "mol_fast.vision.ibug > mol_fast.vision.align > mol_fast.vision.ibug is a circle of imports",
        ),
        (
            "mol_fast/attic/__init__.py",
            "",
            "pyproject.toml does not package mol_fast.attic",
        ),
        (
            "mol_fast/vision/attic/no_init.py",
            "",
            "pyproject.toml does not package mol_fast.vision.attic",
        ),
        (
            "mol_fast/attic.py",
            "",
            "mol_fast.attic lies in no room of a layer: name its room in LAYERS",
        ),
    ],
)
def test_what_is_planted_is_found(copy: Path, file: str, line: str, problem: str) -> None:
    path = copy / file
    path.parent.mkdir(exist_ok=True)
    with open(path, "a") as text:
        text.write(f"\n{line}\n")
    assert problem in House(copy).problems()


def test_what_grows_too_large_is_found(copy: Path) -> None:
    (copy / "mol_fast" / "utils" / "errors.py").write_text("\n" * 401)
    for number in range(5):
        (copy / "mol_fast" / f"loose_{number}.py").touch()
    problems = House(copy).problems()
    assert "mol_fast.utils.errors has 401 lines, at most 400 are allowed: split it by subject" in problems
    assert any("files lie directly in mol_fast, at most 12 may" in problem for problem in problems)


def test_a_folder_that_is_gone_is_found(copy: Path) -> None:
    shutil.rmtree(copy / "mol_fast" / "report")
    assert "pyproject.toml packages mol_fast.report, which is not there" in House(copy).problems()


def test_a_longer_chain_is_found(copy: Path) -> None:
    for file, line in (("mol_fast/vision/ibug.py", "mol_fast.kernels.common"), ("kernels/common.py", "mol_fast.utils")):
        with open(copy / file, "a") as text:
            text.write(f"\nimport {line}\n")
    chain = House(copy).longest_chain()
    assert chain[-3:] == ["vision", "kernels", "utils"]
    assert len(chain) > LONGEST
