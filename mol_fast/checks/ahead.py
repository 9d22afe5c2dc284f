"""Compile the Triton kernels ahead of time, for a GPU that need not be present.

This runs in a child process, `python -m mol_fast.checks.ahead`, so that the doctor itself needs no triton and keeps no
state of Triton. The child prints one JSON row per kernel, configuration and dtype.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch

from mol_fast.checks.accuracy import dtype_name, in_a_line

TARGET = "sm_90"
DTYPES = ("bfloat16", "float32")
SHARED_LIMIT = 99 * 1024
"""Bytes of shared memory per program on the smallest supported cards (sm_86 and sm_89)."""
TIMEOUT = 900.0  # seconds


def compile_all(quick: bool) -> list[dict[str, Any]]:
    """Return a row with the resources of every shipped kernel on `TARGET`, in `DTYPES`.

    Each row has a `problem`, or None.

    Args:
        quick: compile only one configuration of each kernel, in bfloat16.

    Raises:
        RuntimeError: the child failed or timed out; the message is its last line.
    """
    dtypes = DTYPES[:1] if quick else DTYPES
    command = [sys.executable, "-m", "mol_fast.checks.ahead", *dtypes, *(["quick"] if quick else [])]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    try:
        child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the kernels were not compiled within {TIMEOUT:.0f} seconds") from None
    if child.returncode:
        said = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise RuntimeError(said[-1])
    found = [json.loads(line) for line in child.stdout.splitlines()]
    if not found:
        raise RuntimeError("no kernel was compiled")
    return found


def rows(dtypes: list[torch.dtype], quick: bool) -> Iterator[dict[str, Any]]:
    """Compile the kernels, in the child process, and yield their rows."""
    from mol_fast.kernels import resources

    target = resources.TARGETS[TARGET]
    for operator in resources.OPERATORS:
        for dtype in dtypes:
            seen = set()
            for shape, launch in resources.shipped(operator, dtype, target.backend):
                if quick and launch.name in seen:
                    continue
                seen.add(launch.name)
                row = {"operator": operator, "kernel": launch.name, "shape": shape, "dtype": dtype_name(dtype)}
                yield {**row, "target": TARGET, **used(launch, target)}


def used(launch: Any, target: Any) -> dict[str, Any]:
    """Return registers, spills, shared memory, matrix instructions, and the problem, if any."""
    from mol_fast.kernels import resources

    try:
        found = resources.resources(resources.compile_launch(launch, target))
    except Exception as raised:  # the doctor reports whatever the compiler raises
        return {"problem": f"does not compile, {in_a_line(raised)}"}
    problems = []
    if found.stack or found.local:
        problems.append(f"spills {found.stack + found.local} bytes")
    if found.shared > SHARED_LIMIT:
        problems.append(f"takes {found.shared} bytes of shared memory, more than {SHARED_LIMIT}")
    if bool(found.matrix) != bool(launch.flops):
        problems.append("has no matrix instructions" if launch.flops else "has matrix instructions")
    return {
        "registers": found.registers,
        "spills": found.stack + found.local,
        "shared": found.shared,
        "matrix": list(found.matrix),
        "problem": ", ".join(problems) or None,
    }


if __name__ == "__main__":
    for row in rows([getattr(torch, name) for name in sys.argv[1:] if name != "quick"], "quick" in sys.argv):
        print(json.dumps(row), flush=True)
