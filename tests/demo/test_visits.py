"""What a visitor leaves is deleted, and nothing of another one."""

from pathlib import Path

import pytest

from mol_fast.demo.visits import Visits


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    return path


@pytest.fixture
def visits(tmp_path: Path) -> Visits:
    return Visits(tmp_path / "results", write(tmp_path / "example/head.mp4"))


def begun(visits: Visits, visitor: str, video: Path) -> Path:
    """The folder of results of a video, with a file."""
    results = visits.begin(visitor, video)
    assert results is not None
    write(results / "annotated.mp4")
    return results


def test_the_end_of_a_visit_deletes_its_video_and_its_results(visits: Visits, tmp_path: Path) -> None:
    mine, other = write(tmp_path / "a/mine.mp4"), write(tmp_path / "b/other.mp4")
    visits.give("me", mine)
    visits.give("you", other)
    of_me, of_you = begun(visits, "me", mine), begun(visits, "you", other)
    visits.end("me")
    visits.end("nobody")
    assert (mine.parent.exists(), of_me.exists(), other.exists(), of_you.exists()) == (False, False, True, True)
    assert not visits.waits_for("me", of_me)
    assert visits.waits_for("you", of_you)
    assert visits.begin("me", mine) is None


@pytest.mark.parametrize("name", ["2/a.mp4", None])
def test_another_video_or_none_ends_the_one_before(visits: Visits, tmp_path: Path, name: str | None) -> None:
    first, second = write(tmp_path / "1/a.mp4"), None if name is None else write(tmp_path / name)
    visits.give("me", first)
    results = begun(visits, "me", first)
    assert visits.waits_for("me", results)
    visits.give("me", second)
    assert (first.exists(), results.exists(), visits.waits_for("me", results)) == (False, False, False)
    assert visits.begin("me", first) is None
    if second is not None:
        assert second.exists()
        assert visits.waits_for("me", begun(visits, "me", second))


def test_a_video_is_analysed_once_until_that_fails_or_it_is_given_again(visits: Visits, tmp_path: Path) -> None:
    video = write(tmp_path / "1/a.mp4")
    visits.give("me", video)
    first = begun(visits, "me", video)
    assert visits.begin("me", video) is None
    visits.drop("me", first)
    assert not first.exists()
    second = begun(visits, "me", video)
    visits.drop("me", first)
    assert visits.waits_for("me", second)
    visits.give("me", video)
    assert (video.exists(), second.exists()) == (True, False)
    assert visits.begin("me", video) is not None


def test_a_video_that_two_visitors_gave_lasts_until_both_are_gone(visits: Visits, tmp_path: Path) -> None:
    """Gradio keeps the same file in the same place."""
    video = write(tmp_path / "same/a.mp4")
    visits.give("me", video)
    visits.give("you", video)
    visits.end("me")
    assert video.exists()
    visits.end("you")
    assert not video.exists()


def test_the_example_is_never_deleted(visits: Visits, tmp_path: Path) -> None:
    head = tmp_path / "example/head.mp4"
    visits.give("me", head)
    visits.end("me")
    assert head.exists()
