"""What `import mol_fast` brings along, in an interpreter of its own."""

import os
import subprocess
import sys

import pytest

HEAVY = (
    "triton",
    "numba",
    "cv2",
    "av",
    "dlib",
    "matplotlib",
    "lightning_fabric",
    "pandas",
    "skimage",
    "tensorboard",
    "tyro",
    "rich",
)


def python(code: str) -> str:
    """Standard output of `code` in a fresh interpreter."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stages() -> list[str]:
    """What a fresh interpreter prints while it imports more and more: one line, four lines, one line, five lines."""
    return python(
        "import sys, mol_fast\n"
        "print('torch' in sys.modules, set(mol_fast.__all__) <= set(dir(mol_fast)))\n"
        "import torch; before = set(sys.modules)\n"
        "for name in set(mol_fast.__all__) - {'explain', 'flow', 'landmarks', 'predict'}: getattr(mol_fast, name)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))\n"
        "print(*[name for name in sys.modules if name.startswith('mol_fast.')])\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])\n"
        "print(torch.cuda.is_initialized())\n"
        "import mol_fast.data\n"
        "print({'matplotlib', 'skimage', 'cv2', 'dlib', 'pandas'} & set(sys.modules))\n"
        "import mol_fast.predict\n"
        "from mol_fast.prediction.predictor import predict\n"
        "import mol_fast.explain\n"
        "calls = mol_fast.predict, mol_fast.predict.predict, predict, mol_fast.explain, mol_fast.explain.explain\n"
        "for call in calls:\n"
        "    try: call([1], weights='nowhere')\n"
        "    except ValueError as error: print(error)"
    ).splitlines()


def test_names_are_known_before_anything_is_imported(stages: list[str]) -> None:
    assert stages[0] == "False True"


def test_help_needs_no_torch() -> None:
    code = "import sys, mol_fast.cli; sys.argv[1:] = ['--help']; print(mol_fast.cli.main(), 'torch' in sys.modules)"
    assert python(code).splitlines()[-1] == "0 False"


def test_moments_are_spotted_without_torch() -> None:
    """PyTorch is imported meanwhile, in a thread."""
    code = (
        "import sys, mol_fast.prediction.analysis, mol_fast.prediction.terminal\n"
        "from mol_fast.nn.header import read_header\n"
        "from mol_fast.nn.locate import find_weights\n"
        "print(len(read_header(find_weights('general')).classes), 'torch' in sys.modules)"
    )
    assert python(code) == "3 False\n"


def test_a_wrong_option_is_told_without_torch() -> None:
    code = "import sys, mol_fast.predict as p; print(p.main(['a.mp4', '--confidence', '2']), 'torch' in sys.modules)"
    assert python(code) == "2 False\n"


def test_large_imports_are_left_to_no_search_for_garbage() -> None:
    code = (
        "import gc\n"
        "from mol_fast.utils.memory import large_imports\n"
        "with large_imports():\n"
        "    print(gc.isenabled())\n"
        "    import mol_fast.vision.align\n"
        "kept = gc.get_freeze_count()\n"
        "with large_imports(): import mol_fast.vision.align\n"
        "print(gc.isenabled(), kept > 1000, kept == gc.get_freeze_count())"
    )
    assert python(code).split() == ["False", "True", "True", "True"]


def test_import_is_light(stages: list[str]) -> None:
    """Beyond torch, only the modules that the public names are made of.

    No program, data set, kernel or reference, and none of the packages that only those need (every name is
    imported when it is first used); no device is touched.
    """
    packages, modules, heavy, device = stages[1:5]
    assert set(packages.split()) <= {"mol_fast", "torch", "numpy", "einops", "safetensors", "msgspec"}
    for part in ("cli", "data", "train", "predict", "kernels", "reference", "report", "metrics", "faces", "video"):
        assert f"mol_fast.{part}" not in modules.split()
    assert heavy == ""
    assert device == "False"


def test_data_needs_none_of_the_extras(stages: list[str]) -> None:
    assert stages[5] == "set()"


def test_explain_and_predict_are_functions_before_and_after_their_modules_are_imported(stages: list[str]) -> None:
    assert stages[6:] == ["frames must be a numpy array, uint8 (n, H, W, 3), got list"] * 5


@pytest.fixture(scope="module")
def bare() -> list[str]:
    """What an interpreter prints in which no extra can be imported, first the layer, then the programs."""
    packages = (*HEAVY, "filelock", "openpyxl")
    return python(
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({packages}))\n"
        "import torch, mol_fast\n"
        "block = mol_fast.F5C(8, 4, neighbors=2)\n"
        "y = block(torch.randn(1, 8, 4, 4)); y.sum().backward(); print(tuple(y.shape))\n"
        "a = torch.randn(1, 8, 4, 4); print(tuple(mol_fast.functional.correlation(a, a).shape))\n"
        "try: mol_fast.F5C(8, 4, neighbors=2, backend='triton')(a)\n"
        "except RuntimeError as error: print(error)\n"
        "sys.stderr = sys.stdout\n"
        "for name in ('prepare', 'train', 'evaluate', 'predict', 'doctor', 'show', 'faces'):\n"
        "    print(importlib.import_module(f'mol_fast.{name}').main([]))"
    ).splitlines()


def test_works_without_triton(bare: list[str]) -> None:
    """The layer, its gradient and the model's parts run where triton cannot be imported."""
    assert bare[:2] == ["(1, 8, 4, 4)", "(1, 441, 4, 4)"]
    assert 'backend="triton"' in bare[2]


def test_boundary_of_programs_without_the_extras(bare: list[str]) -> None:
    """Every program says what to install."""
    assert bare[4::2] == ["2"] * 7
    assert all(line.startswith("error: tyro is not installed: pip install 'mol-fast[") for line in bare[3::2])
