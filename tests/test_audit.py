"""The audit of pinned versions: what fails it, and what it says where it cannot audit."""

import subprocess
from typing import Any

import pytest
from harness import audit

CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": []}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "text"),
    [
        ([CLEAN], 0, "versions audited: 1, vulnerabilities: 0"),
        ([CLEAN, UNKNOWN], 0, "versions audited: 1, vulnerabilities: 0; unknown: torch"),
        ([CLEAN, BAD], 1, "pillow 1.0: PYSEC-1, fixed in 2.0\nversions audited: 2, vulnerabilities: 1"),
        ([UNKNOWN], 0, "not audited: the package index here has no data on vulnerabilities"),
        ([], 0, "not audited: the package index here has no data on vulnerabilities"),
    ],
)
def test_judgement(packages: list[dict[str, object]], code: int, text: str) -> None:
    assert audit.judge(packages) == (code, text)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (subprocess.TimeoutExpired("pip_audit", 60), "did not answer within 60 s"),
        (subprocess.CompletedProcess([], 1, "", "Traceback\nConnectionError: no route"), "(ConnectionError: no route)"),
        (subprocess.CompletedProcess([], 1, "[]", ""), "(no output)"),
    ],
)
def test_no_database_is_said_and_does_not_fail(outcome: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    code, said = audit.audit()
    assert code == 0
    assert said.startswith("not audited: ")
    assert text in said


def test_every_pin_is_an_exact_version() -> None:
    """Or pip-audit would audit another one."""
    lines = [line for line in audit.CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 and line.strip() == line for line in lines)
    assert lines == sorted(lines, key=str.lower)
