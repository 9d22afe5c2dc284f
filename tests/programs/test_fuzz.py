"""A few damaged and hostile files of every format; `tests/shows/fuzz.py` reads many more."""

from pathlib import Path

from harness.fuzz_formats import FORMATS
from harness.fuzzing import ACCEPTED, REFUSED, Fuzzer

QUICK = {name: form for name, form in FORMATS.items() if name != "report of a run"}  # which takes a second a case


def test_door_accepts_or_refuses_every_file(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path, 1, QUICK)
    outcomes = [fuzzer.run(number) for number in range(4 * len(QUICK))]
    assert [pair for pair in outcomes if pair[1] not in (ACCEPTED, REFUSED)] == []
    assert {outcome for _, outcome in outcomes} == {ACCEPTED, REFUSED}


def test_door_reads_what_was_not_changed(tmp_path: Path) -> None:
    for name, form in QUICK.items():
        (tmp_path / name).mkdir()
        form.make(tmp_path / name)
        form.read(tmp_path / name)
