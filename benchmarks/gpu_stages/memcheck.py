"""Stage 6: run compute-sanitizer's memcheck on a small F5C and a small correlation, forward and backward."""

import re
import shutil
import subprocess
import sys

from gpu_stages.context import Context

OPERATORS = ("F5C", "correlation")
TOOL = "compute-sanitizer"
SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error")


def run(context: Context) -> None:
    if shutil.which(TOOL) is None:
        raise RuntimeError(f"{TOOL} is not installed")
    started = {name: start(context, name) for name in OPERATORS}
    wrong = []
    for name, process in started.items():
        log = context.scratch / f"memcheck-{name}.txt"
        try:
            code: int | None = process.wait(max(0.1, context.left()))
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
        text = log.read_text(errors="replace")
        found = SUMMARY.findall(text)
        lines = [line for line in text.splitlines() if line.startswith("=========")]
        errors = int(found[-1]) if found else None
        ran = f"done {name}" in text
        context.record("memcheck", operator=name, errors=errors, ran=ran, code=code, lines=lines[:30])
        if errors != 0 or not ran:
            wrong.append(name)
    if wrong:
        raise RuntimeError(f"{' and '.join(wrong)}: errors, or it did not run to its end")


def start(context: Context, name: str) -> "subprocess.Popen[bytes]":
    environment = {**context.environment(), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # one allocation per tensor
    command = [TOOL, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-m", "gpu_stages.small", name]
    with (context.scratch / f"memcheck-{name}.txt").open("wb") as log:
        return subprocess.Popen(command, env=environment, cwd=context.scratch, stdout=log, stderr=subprocess.STDOUT)
