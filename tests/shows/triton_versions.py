"""Run all lanes of the kernels, and compile everything, under the oldest and the newest supported Triton.

    python tests/shows/triton_versions.py [pytest arguments]

Each version is installed into a folder of its own that goes before the environment's packages; the environment is
not changed. Run it before a change of a kernel is called done.
"""

import os
import subprocess
import sys
import tempfile

VERSIONS: dict[str, list[str]] = {"3.6.0": ["numpy<2.4"], "3.9.0": []}
"""Version -> what else its interpreter needs: that of 3.6 takes one-element arrays for numbers, NumPy 2.4 does not."""


def run(version: str, arguments: list[str]) -> int:
    """pytest's exit code with this Triton."""
    with tempfile.TemporaryDirectory() as folder:
        packages = [f"triton=={version}", *VERSIONS[version]]
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *packages]
        subprocess.run([sys.executable, *install], check=True)
        environment = {**os.environ, "PYTHONPATH": folder, "TRITON_CACHE_DIR": os.path.join(folder, "cache")}
        environment["MOL_FAST_AOT"] = "all"
        print(f"triton {version}", flush=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "tests",
            "-m",
            "interpreter or sanitizer or emulated or aot",
            *arguments,
        ]
        return subprocess.run(command, env=environment).returncode


def main() -> None:
    codes = [run(version, sys.argv[1:]) for version in VERSIONS]
    raise SystemExit(max(codes))


if __name__ == "__main__":
    main()
