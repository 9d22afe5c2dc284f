"""Samples of a run tell where the class comes from, and its report shows it."""

from pathlib import Path

import pytest
from harness.trainings import options

from mol_fast.data import ClipDataset, PreparedSet
from mol_fast.data.protocols import get_protocol
from mol_fast.explain import ELSEWHERE
from mol_fast.explain.samples import explain_samples
from mol_fast.nn.weights import load_weights
from mol_fast.runs.fold_results import FoldResults
from mol_fast.spotting import REGIONS
from mol_fast.train import main


def test_samples_of_a_run_are_explained(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(options(embedded_small, tmp_path, "--steps", "1", "--folds", "s01")) == 0
    folder = tmp_path / "run/folds/s01-seed0"
    results = FoldResults.read(folder)
    assert results is not None
    for sample in results.samples:
        assert sample.attribution is not None
        assert sample.attribution.shape == (16, 16)  # type: ignore[union-attr]
        assert tuple(sample.regions) == (*REGIONS, ELSEWHERE)
        assert sum(sample.regions.values()) == pytest.approx(1, abs=1e-4)
        assert sample.sentence
    page = (tmp_path / "run/report.html").read_text()
    assert page.count("(Grad-CAM): ") >= len(results.samples)
    assert f"Motion: {results.samples[0].sentence}." in page

    clips = ClipDataset(
        [video for video in embedded_small.videos if video.subject == "s01"], get_protocol("embedded-3")
    )
    model, _ = load_weights(folder)
    (again,) = explain_samples(model, clips, results.samples[:1])
    assert again.regions == pytest.approx(dict(results.samples[0].regions), abs=1e-4)
    monkeypatch.setattr("mol_fast.explain.samples.find_spec", lambda name: None)
    assert explain_samples(model, clips, results.samples[:1]) == results.samples[:1]
