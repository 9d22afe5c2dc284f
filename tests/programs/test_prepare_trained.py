"""Prepared sets in training: their protocol must be the one that is trained, and their counts are compared."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from mol_fast.data import PROTOCOLS, Counts, PreparedSet
from mol_fast.train import main

pytestmark = pytest.mark.usefixtures("light")


def train(prepared: Path, out: Path, protocol: str) -> int:
    """Stops at the latest where the folds are made, for want of the subject."""
    return main(["--data", str(prepared), "--out", str(out), "--protocol", protocol, "--test-subjects", "nobody"])


def prepared_for(embedded: PreparedSet, folder: Path, protocol: str, source: str) -> Path:
    """A copy that says what it was prepared for; the labels are those of CASME II."""
    folder.mkdir()
    (folder / "videos").symlink_to(embedded.path / "videos")
    (folder / "index.csv").write_text((embedded.path / "index.csv").read_text().replace("embedded", source))
    info = {**msgspec.structs.asdict(embedded.info), "protocol": protocol, "source": source}
    (folder / "set.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize(
    ("asked", "refused"), [("casme2-3", False), ("megc2019", False), ("casme2-5", True), ("embedded-3", True)]
)
def test_set_of_another_protocol_is_refused(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str], asked: str, refused: bool
) -> None:
    folder = prepared_for(embedded_small, tmp_path / "set", "casme2-3", "casme2")
    assert train(folder, tmp_path / "runs", asked) == 2
    error = capfd.readouterr().err
    assert (f"was prepared for the protocol casme2-3, not for {asked}" in error) == refused
    assert ("there is no subject nobody" in error) != refused


def test_counts_that_differ_are_a_warning(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for negative, warned in ((6, False), (7, True)):
        asked = Counts({"negative": negative, "positive": 3, "surprise": 3}, subjects=3)
        monkeypatch.setitem(PROTOCOLS, "embedded-3", replace(PROTOCOLS["embedded-3"], counts=(asked,)))
        assert train(embedded_small.path, tmp_path / "runs", "embedded-3") == 2
        error = capfd.readouterr().err
        assert ("warning: the counts differ from the protocol" in error) == warned
        assert (" 7       6          -1" in error) == warned
        assert "there is no subject nobody" in error


def test_the_protocol_a_set_was_prepared_for_is_the_default(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = prepared_for(embedded_small, tmp_path / "set", "casme2-3", "casme2")
    assert main(["--data", str(folder), "--out", str(tmp_path), "--test-subjects", "nobody"]) == 2
    assert "negative" in capfd.readouterr().err  # the table of casme2-3's counts
