"""The clips of MEGC 2019 by their names. The names in these tests are those that mol-fast tells anyway."""

import hashlib
from dataclasses import dataclass

import pytest

from mol_fast.data import PROTOCOLS, clip_lists
from mol_fast.data.clip_lists import check_clips
from mol_fast.data.counts import compare


@dataclass(frozen=True)
class Clip:
    """An annotated clip."""

    source: str
    subject: str
    name: str
    label: str = "negative"

    @property
    def told(self) -> tuple[str, str, str]:
        return self.source, self.subject, self.name


IN = Clip("casme2", "sub16", "EP01_08")  # too short in "Cropped", and asked for
SAMM_IN = Clip("samm", "013", "013_1_12")  # its images are renamed in some releases
OUT = [Clip("casme2", "sub24", name, "surprise") for name in ("EP07_01", "EP07_04f", "EP10_03")]


@pytest.mark.parametrize(
    ("protocol", "count"), [("casme2-3", 145), ("samm-3", 133), ("smic-3", 164), ("megc2019", 442)]
)
def test_every_clip_of_the_list_is_asked_for_once(protocol: str, count: int) -> None:
    found = check_clips(PROTOCOLS[protocol], [])
    assert found is not None
    assert (found.surplus, found.missing, found.unknown) == ((), (), count)
    assert sum(PROTOCOLS[protocol].counts[0].classes.values()) == count


def test_surplus_and_missing_clips_are_named() -> None:
    found = check_clips(PROTOCOLS["casme2-3"], OUT, [IN.told, ("casme2", "sub01", "made_up")])
    assert found is not None
    assert found.surplus == ("sub24/EP07_01", "sub24/EP07_04f", "sub24/EP10_03")
    assert (found.missing, found.unknown) == (("sub16/EP01_08",), 144)
    assert found.lines() == [
        "not in the list of MEGC 2019: sub24/EP07_01, sub24/EP07_04f, sub24/EP10_03",
        "missing from the list of MEGC 2019: sub16/EP01_08, 144 of other names",
    ]


def test_parts_of_the_composite_are_told_apart() -> None:
    clips = [IN, SAMM_IN, Clip("samm", IN.subject, IN.name)]
    found = check_clips(PROTOCOLS["megc2019"], clips)
    assert found is not None
    assert (found.surplus, found.unknown) == (("sub16/EP01_08",), 440)
    assert check_clips(PROTOCOLS["casme2-5"], [IN]) is None
    assert check_clips(PROTOCOLS["cross-3"], [IN]) is None, "it joins sets without a list"


def test_exactly_their_clips_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clip_lists._CLIPS, "casme2-3", _digests(IN))
    found = check_clips(PROTOCOLS["casme2-3"], [IN])
    assert found is not None
    assert found.lines() == ["the clips are exactly those in the list of MEGC 2019"]


def _digests(*clips: Clip) -> str:
    return " ".join(hashlib.sha256("/".join(clip.told).encode()).hexdigest()[:8] for clip in clips)


def test_equal_counts_of_other_clips_are_told() -> None:
    """One clip too few and one too many leave the counts as they are."""
    asked = PROTOCOLS["smic-3"].counts[0]
    clips = [Clip("smic", f"s{i % 16:02d}", f"{name}_{i}", name) for name, n in asked.classes.items() for i in range(n)]
    check = compare(PROTOCOLS["smic-3"], clips)
    assert check is not None
    assert check.agrees
    assert check.clips is not None
    assert not check.clips.agrees
    (surplus,) = (line for line in check.table().splitlines() if line.startswith("not in the list of MEGC 2019: "))
    assert surplus.count("/") == 20
    assert surplus.endswith(", 144 more")
    assert check.table().endswith("missing from the list of MEGC 2019: 164 of other names")
