"""Audit the versions in constraints.txt for known vulnerabilities, with pip-audit.

    python tests/harness/audit.py

Exits with 1 if a version is vulnerable. Where the database cannot be reached within a minute, or knows none of the
packages, as a mirror of the package index may, nothing is audited and one line says so.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
SECONDS = 60


def audit(constraints: Path = CONSTRAINTS) -> tuple[int, str]:
    """Return exit code and what to print."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(constraints), "--no-deps", "--disable-pip"]
    options = ["--progress-spinner", "off", "--format", "json", "--timeout", "5"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return 0, f"not audited: the database of vulnerabilities did not answer within {SECONDS} s"
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return 0, f"not audited: pip-audit could not reach its database ({reason[:200]})"
    return judge(packages)


def judge(packages: list[dict[str, object]]) -> tuple[int, str]:
    """Return exit code and what to print for the "dependencies" that pip-audit reports."""
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        return 0, "not audited: the package index here has no data on vulnerabilities"
    unknown = [str(package["name"]) for package in packages if "vulns" not in package]
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}"
        for package in audited
        for found in package["vulns"]  # type: ignore[attr-defined]
    ]
    count = f"versions audited: {len(audited)}, vulnerabilities: {len(lines)}"
    return int(bool(lines)), "\n".join([*lines, count + (f"; unknown: {', '.join(unknown)}" if unknown else "")])


if __name__ == "__main__":
    code, text = audit()
    print(text)
    sys.exit(code)
