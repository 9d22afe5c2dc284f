"""What a visitor leaves is deleted, and nothing of another one."""

from pathlib import Path

from mol_fast.demo.visits import Visits


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    return path


def test_the_end_of_a_visit_deletes_its_video_and_its_results(tmp_path: Path) -> None:
    visits = Visits(tmp_path / "results")
    mine, other = write(tmp_path / "a/mine.mp4"), write(tmp_path / "b/other.mp4")
    visits.keep("me", mine)
    visits.keep("you", other)
    of_me, of_you = visits.new_results("me"), visits.new_results("you")
    write(of_me / "annotated.mp4")
    visits.end("me")
    visits.end("nobody")
    assert (mine.exists(), of_me.exists(), other.exists(), of_you.exists()) == (False, False, True, True)
    assert not visits.waits_for("me", of_me)
    assert visits.waits_for("you", of_you)


def test_a_new_video_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    visits = Visits(tmp_path / "results")
    first, second = write(tmp_path / "1/a.mp4"), write(tmp_path / "2/a.mp4")
    visits.keep("me", first)
    visits.keep("me", first)
    assert first.exists()
    visits.keep("me", second)
    assert (first.exists(), second.exists()) == (False, True)
    before = visits.new_results("me")
    after = visits.new_results("me")
    assert (before.exists(), after.exists()) == (False, True)
    assert (visits.waits_for("me", before), visits.waits_for("me", after)) == (False, True)


def test_a_video_that_two_visitors_gave_lasts_until_both_are_gone(tmp_path: Path) -> None:
    """Gradio keeps the same file in the same place."""
    visits = Visits(tmp_path / "results")
    video = write(tmp_path / "same/a.mp4")
    visits.keep("me", video)
    visits.keep("you", video)
    visits.end("me")
    assert video.exists()
    visits.end("you")
    assert not video.exists()
