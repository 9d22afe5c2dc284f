"""The published protocols: each asks for what its table says, and a difference stops the run and is explained."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from harness.fake_releases import Fake, protocol_videos, write_casme2, write_samm, write_smic

from mol_fast.data import PROTOCOLS, ClipDataset, open_sets, write_index, write_video
from mol_fast.data.counts import compare, count
from mol_fast.preparation.layouts import CASME2, SAMM, list_smic, list_with_sheet
from mol_fast.preparation.release import RawVideo
from mol_fast.prepare import main
from mol_fast.utils.errors import UserError

WRITERS = {"casme2": write_casme2, "samm": write_samm, "smic": write_smic}
TABLE = {
    "casme2-5": ((25, 32, 63, 27, 99), 246, 26),
    "samm-5": ((15, 26, 57, 12, 26), 136, 27),
    "casme2-3": ((88, 32, 25), 145, 24),
    "samm-3": ((92, 26, 15), 133, 28),
    "smic-3": ((70, 51, 43), 164, 16),
}


@pytest.mark.parametrize(
    ("three", "seven"), [("casme3-3", "casme3-7"), ("dfme-3", "dfme-7"), ("casme3-c-3", "casme3-c-4")]
)
def test_three_classes_are_sums_of_more(three: str, seven: str) -> None:
    """How many subjects have a video of the three is published only where they are all classes."""
    (asked,), (classes,) = PROTOCOLS[three].counts, PROTOCOLS[seven].counts
    sums: Counter[str | None] = Counter()
    for name, number in classes.classes.items():
        sums[PROTOCOLS[three].mapping[name]] += number
    del sums[None]
    assert asked.classes == sums
    assert asked.subjects == (classes.subjects if three == "dfme-3" else None)


def test_counts_without_a_number_of_subjects() -> None:
    asked = PROTOCOLS["casme3-c-3"].counts[0].classes
    videos = [
        RawVideo(f"C{i:02d}", f"{n}", name, "casme3-c", ())
        for name, k in asked.items()
        for n in range(k)
        for i in [n % 7]
    ]
    check = compare(PROTOCOLS["casme3-c-3"], videos)
    assert check is not None
    assert check.agrees
    assert check.table().splitlines()[-1].split() == ["subjects", "?", "7"]
    less = compare(PROTOCOLS["casme3-c-3"], videos[1:])
    assert less is not None
    assert not less.agrees


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A release of the size of each protocol, without pictures, and with videos that no protocol asks for."""
    roots = {}
    for protocol in TABLE:
        source = protocol.partition("-")[0]
        extra = {
            "casme2": [Fake(4, "EP12_01f", "disgust"), Fake(5, "EP09_05f", "disgust"), Fake(1, "sad", "sadness")],
            "samm": [Fake(1, "left_out", "Other" if protocol == "samm-3" else "Fear")],
            "smic": [],
        }[source]
        if protocol == "casme2-5":
            extra = extra[2:]
        root = tmp_path_factory.mktemp(protocol)
        roots[protocol] = WRITERS[source](root, [*protocol_videos(source, protocol), *extra], faces=False)
    return roots


def listed(protocol: str, root: Path) -> list[RawVideo]:
    if protocol.startswith("smic"):
        return list_smic(root).videos
    return list_with_sheet(CASME2 if protocol.startswith("casme2") else SAMM, root, None).videos


def options(protocol: str, root: Path, *more: str) -> list[str]:
    return [protocol.partition("-")[0], "--root", str(root), "--out", f"{root}-out", "--protocol", protocol, *more]


@pytest.mark.parametrize("protocol", TABLE)
def test_full_release_has_exactly_the_counts(
    protocol: str, releases: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    classes, total, subjects = TABLE[protocol]
    found = count(PROTOCOLS[protocol], listed(protocol, releases[protocol]))
    assert tuple(found.classes.values()) == classes
    assert sum(classes) == total
    assert found.subjects == subjects
    assert main(options(protocol, releases[protocol], "--list-only")) == 0
    assert f"{total} listed" in capfd.readouterr().out
    assert not Path(f"{releases[protocol]}-out").exists()


def test_challenge_joins_the_three_sets(releases: dict[str, Path]) -> None:
    videos = [video for protocol in ("casme2-3", "samm-3", "smic-3") for video in listed(protocol, releases[protocol])]
    comparison = compare(PROTOCOLS["megc2019"], videos)
    assert comparison is not None
    assert comparison.found.classes == {"negative": 250, "positive": 109, "surprise": 83}
    assert comparison.found.subjects == 68
    assert comparison.agrees


def test_challenge_on_one_set_is_its_part(releases: dict[str, Path]) -> None:
    protocol, root = "casme2-3", releases["casme2-3"]
    given = [word if word != protocol else "megc2019" for word in options(protocol, root, "--list-only")]
    assert main(given) == 0


def test_sheet_of_2019_has_three_more(tmp_path: Path) -> None:
    videos = [*protocol_videos("casme2", "casme2-5"), *(Fake(1, f"new{i}", "surprise", frames=8) for i in range(3))]
    assert main(options("casme2-5", write_casme2(tmp_path, videos, faces=False), "--list-only")) == 0


@pytest.mark.parametrize(
    ("protocol", "missing"),
    [(name, part) for name in TABLE for part in ("frames", "row") if (name, part) != ("smic-3", "row")],
)
def test_a_missing_video_stops_the_run_and_is_named(
    protocol: str, missing: str, releases: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = protocol.partition("-")[0]
    videos = protocol_videos(source, protocol)
    gone = videos.pop(3)
    root = tmp_path / "release"
    if source == "smic":
        shutil.copytree(releases[protocol], root)
        (folder,) = root.rglob(gone.name)
        shutil.rmtree(folder)
        name = f"s{gone.subject:02d}_{gone.name.partition('_')[2]}"
    else:
        WRITERS[source](root, [*videos, gone], faces=False)
        if missing == "frames":
            (folder,) = root.rglob(gone.name)
            shutil.rmtree(folder)
        else:
            WRITERS[source](root, videos, faces=False)
        name = gone.name
    code = main(options(protocol, root))
    error = capfd.readouterr().err
    assert code == 3
    assert name in error
    assert "-1" in error
    assert not Path(f"{root}-out").exists()


def test_protocol_of_another_set(releases: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    given = options("casme2-5", releases["casme2-5"], "--list-only")
    given[given.index("casme2-5")] = "samm-5"
    assert main(given) == 2
    error = capfd.readouterr().err
    assert "the protocol samm-5 is not for casme2; choose casme2-5 or casme2-3 or cross-3 or megc2019" in error
    given = ["casme", *given[1:]]
    given[given.index("samm-5")] = "casme-sq-3"
    assert main(given) == 2
    assert "the protocol casme-sq-3 is not for casme; choose casme-3 or cross-3" in capfd.readouterr().err


def test_all_suspects_are_named_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    short = [Fake(i, f"EP{i:02d}", "disgust", frames=7) for i in range(1, 61)]
    root = write_casme2(tmp_path / "release", [*short, Fake(1, "good", "disgust")], faces=False)
    for more in ([], ["--list-only"]):
        assert main(options("casme2-3", root, *more)) == 3
        shown = capfd.readouterr()
        told = shown.out + shown.err
        assert [told.count(f"/{video.name} (disgust)") for video in short] == [1] * 60
        assert told.count("difference") == 1
        assert "the counts differ; --allow-count-mismatch" in shown.err


@pytest.mark.parametrize("source", ["smic", "folders"])
def test_a_sheet_of_a_set_without_one_is_refused(
    source: str, releases: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    root = releases["smic-3"]
    given = [source, "--root", str(root), "--out", f"{root}-out", "--sheet", "/nowhere.xlsx"]
    assert main([*given, "--list-only"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"--sheet does not apply to {source}, " in line
    assert line.endswith("; omit it")


def test_cross_joins_the_three_classes_of_every_set() -> None:
    three = {name: protocol for name, protocol in PROTOCOLS.items() if name.endswith("-3") and not protocol.parts}
    del three["embedded-3"]
    assert PROTOCOLS["cross-3"].parts == {name.removesuffix("-3"): name for name in three}


def test_unknown_protocol(releases: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    given = options("casme2-5", releases["casme2-5"])
    given[given.index("casme2-5")] = "casme2-9"
    assert main(given) == 2
    assert "there is no protocol 'casme2-9'; choose one of" in capfd.readouterr().err


def write_tiny(folder: Path, source: str, rows: list[tuple[str, str, str]], **info: int) -> Path:
    frames = torch.zeros(8, 144, 144, dtype=torch.uint8)
    content = (
        frames,
        torch.arange(136.0).reshape(68, 2).repeat(8, 1, 1),
        torch.zeros(7, 2, 144, 144, dtype=torch.float16),
    )
    videos = [
        write_video(folder / f"{s}_{n}.safetensors", *content, subject=s, video=n, label=label, source=source)
        for s, n, label in rows
    ]
    write_index(folder, videos, {"name": source, **info})
    return folder


def test_several_sets_are_read_as_one(tmp_path: Path) -> None:
    casme2 = write_tiny(
        tmp_path / "a",
        "casme2",
        [("sub04", "EP12_01f", "disgust"), ("sub04", "b", "fear"), ("sub04", "c", "repression")],
    )
    samm = write_tiny(tmp_path / "b", "samm", [("006", "b", "fear"), ("006", "c", "others")])
    videos = open_sets([casme2, samm])
    assert {video.id.person for video in videos} == {("casme2", "sub04"), ("samm", "006")}
    clips = ClipDataset(videos, PROTOCOLS["megc2019"])
    used = [(videos[index].id, label) for index, _, label in clips.windows]
    assert used == [
        (("casme2", "sub04", "c"), 0),
        (("samm", "006", "b"), 0),
    ]  # fear is negative in SAMM, unused in CASME II
    assert clips[1]["frames"].shape == (1, 8, 128, 128)
    assert [video.subject for video in open_sets([samm])] == ["006", "006"]
    with pytest.raises(UserError, match="same video"):
        open_sets([casme2, casme2])
    with pytest.raises(UserError, match="does not know 'other'"):
        PROTOCOLS["megc2019"].select(open_sets([write_tiny(tmp_path / "c", "other", [("1", "a", "fear")])]))
    long = write_tiny(tmp_path / "long", "samm", [("006", "006_1_micro_20", "fear")], recordings=1)
    assert len(open_sets([casme2, long])) == 4
    with pytest.raises(UserError, match="may hold the same movements of samm"):
        open_sets([casme2, samm, long])
