"""What `import mol_fast` brings along, in an interpreter of its own."""

import os
import subprocess
import sys

HEAVY = (
    "triton",
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


def test_import_is_light() -> None:
    """Beyond torch, only the modules that the public names are made of.

    No program, data set, kernel or reference, and none of the packages that only those need (`mol_fast.predict` is
    imported when it is first used); no device is touched.
    """
    imported = python(
        "import sys, torch; before = set(sys.modules)\n"
        "import mol_fast\n"
        "for name in set(mol_fast.__all__) - {'predict'}: getattr(mol_fast, name)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))\n"
        "print(*[name for name in sys.modules if name.startswith('mol_fast.')])\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])\n"
        "print(torch.cuda.is_initialized())"
    )
    packages, modules, heavy, device = imported.splitlines()
    assert set(packages.split()) <= {"mol_fast", "torch", "numpy", "einops", "safetensors", "msgspec"}
    for part in ("cli", "data", "train", "predict", "kernels", "reference", "report", "metrics", "faces", "video"):
        assert f"mol_fast.{part}" not in modules.split()
    assert heavy == ""
    assert device == "False"


def test_works_without_triton() -> None:
    """The layer, its gradient and the model's parts run where triton cannot be imported."""
    out = python(
        "import sys; sys.modules['triton'] = None\n"
        "import torch, mol_fast\n"
        "block = mol_fast.F5C(8, 4, neighbors=2)\n"
        "y = block(torch.randn(1, 8, 4, 4)); y.sum().backward(); print(tuple(y.shape))\n"
        "a = torch.randn(1, 8, 4, 4); print(tuple(mol_fast.functional.correlation(a, a).shape))\n"
        "try: mol_fast.F5C(8, 4, neighbors=2, backend='triton')(a)\n"
        "except RuntimeError as error: print(error)"
    ).splitlines()
    assert out[:2] == ["(1, 8, 4, 4)", "(1, 441, 4, 4)"]
    assert 'backend="triton"' in out[2]


def test_boundary_of_programs_without_the_extras() -> None:
    """Every program says what to install."""
    packages = (*HEAVY, "filelock", "openpyxl")
    out = python(
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({packages}))\n"
        "sys.stderr = sys.stdout\n"
        "for name in ('prepare', 'train', 'evaluate', 'predict', 'doctor', 'show', 'faces'):\n"
        "    print(importlib.import_module(f'mol_fast.{name}').main([]))"
    ).splitlines()
    assert out[1::2] == ["2"] * 7
    assert all(line.startswith("error: tyro is not installed: pip install 'mol-fast[") for line in out[::2])
