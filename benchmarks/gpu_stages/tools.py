"""Stage 7: run Nsight Compute on the kernels of the block, and the doctor."""

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpu_stages.context import Context

KERNELS = "regex:^(fcc|ccc)_.*kernel$"
MOST_LAUNCHES = 16
PROFILER = "ncu"
SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats", "WarpStateStats")
DOCTOR = "doctor.json"


def run(context: Context) -> None:
    problems = [problem for problem in (profile(context), doctor(context)) if problem]
    if problems:
        raise RuntimeError("; ".join(problems))


def profile(context: Context) -> str | None:
    """Record the metrics of the kernels, and return the problem, or None."""
    if shutil.which(PROFILER) is None:
        return f"{PROFILER} is not installed"
    file = context.scratch / "ncu.csv"
    command = [PROFILER, "--clock-control", "none", "--csv", "--page", "details"]
    command += [word for section in SECTIONS for word in ("--section", section)]
    command += ["--kernel-name", KERNELS, "--launch-count", str(MOST_LAUNCHES)]
    command += ["--log-file", str(file), sys.executable, "-m", "gpu_stages.small", "block"]
    environment = context.environment()
    try:
        code = subprocess.run(
            command, env=environment, cwd=context.scratch, timeout=max(1.0, 0.6 * context.left())
        ).returncode
    except subprocess.TimeoutExpired:
        return f"{PROFILER} did not end in time"
    rows = table(file)
    context.record("ncu", code=code, rows=rows)
    return None if rows else f"{PROFILER} gave no figures, its exit code was {code}"


def table(file: Path) -> list[dict[str, Any]]:
    """Return the metrics of each kernel with units, from the profiler's CSV table, without its messages."""
    if not file.exists():
        return []
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.startswith('"')]
    found: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(lines):
        if row.get("Metric Name"):
            known = found.setdefault(row["ID"], {"kernel": row["Kernel Name"], "metrics": {}})
            known["metrics"][row["Metric Name"]] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return list(found.values())


def doctor(context: Context) -> str | None:
    """Run the doctor, record its findings, and return the problem, or None."""
    if importlib.util.find_spec("rich") is None:
        return "the doctor needs rich"
    target = context.out / DOCTOR
    command = [sys.executable, "-m", "gpu_stages.doctor", str(target)]
    environment = context.environment()
    if context.rehearsal:
        environment["TRITON_INTERPRET"] = "0"  # without a GPU the doctor compiles the kernels,
        del environment["TRITON_CACHE_DIR"]  # which earlier runs may have cached
    try:
        code = subprocess.run(
            command, env=environment, cwd=context.scratch, timeout=max(1.0, context.left())
        ).returncode
    except subprocess.TimeoutExpired:
        return "the doctor did not end in time"
    found = json.loads(target.read_text()) if target.exists() else {}
    context.record("doctor", code=code, ok=found.get("ok"), wrong=found.get("wrong"))
    return None if code == 0 else f"the doctor ended with code {code}: {'; '.join(found.get('wrong', []))}"
