"""Names of users: what is refused, how subjects and videos are told apart, which folders they make."""

import itertools
import os
from pathlib import Path

import pytest

from mol_fast.utils.errors import UserError
from mol_fast.utils.names import (
    LONGEST_FILE,
    LONGEST_NAME,
    Subject,
    VideoId,
    check_folder_name,
    check_name,
    find_subjects,
    label_subjects,
    name_problem,
    safe_folder,
    shown,
)

HOSTILE = (
    *("a", "A", "a/b", "a_b", "a\\b", "a:b", "..", ".", "a.", "é", "e\u0301", "ß", "SS", "ss", "[/bold]", "=1+1", "-x"),
    *("EP02_01f", "ep02_01f", "a~b", "a+b", "表情", "表清", "x" * 300, "x" * 301, "x" * 299 + "y", "X" * 300),
)


@pytest.mark.parametrize("name", ["sub01", "EP02_01f", "=x", "a/b", "[/bold]", "-1", "表情", "a b", "x" * LONGEST_NAME])
def test_a_name_that_everything_can_carry_is_accepted(name: str) -> None:
    assert name_problem(name) is None
    check_name("subject", name, "index.csv")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        (" \t", "it is empty"),
        ("a ", "white space stands around it"),
        ("a\nb", "the character U+000A"),
        ("a\x1b[31mb", "the character U+001B"),
        ("a\x00", "the character U+0000"),
        ("a\u2028b", "the character U+2028"),
        ("a\u202eb", "the character U+202E"),
        ("a\ud800", "the character U+D800"),
        ("x" * (LONGEST_NAME + 1), "it has 201 bytes, at most 200 are possible"),
        ("表" * 70, "it has 210 bytes"),
    ],
)
def test_a_name_that_something_cannot_carry_is_refused_at_the_door(name: str, reason: str) -> None:
    with pytest.raises(UserError) as error:
        check_name("subject", name, "index.csv, line 3,")
    assert reason in str(error.value)
    assert str(error.value).startswith("index.csv, line 3, has the subject ")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "..", ".", "", "a\nb"])
def test_defect_12_a_name_of_a_folder_leads_nowhere_else(name: str) -> None:
    with pytest.raises(UserError, match=r"--name is .* cannot be the name of a folder"):
        check_folder_name(name, "--name")
    check_folder_name("casme2-20300102", "--name")


def test_defect_02_subject_and_video_are_never_joined() -> None:
    one, other = VideoId("s", "a", "x/v"), VideoId("s", "a/x", "v")
    assert str(one) == str(other)
    assert one != other
    assert len({one, other}) == 2
    assert one.person == Subject("s", "a") != other.person


def test_subjects_are_looked_up_and_never_split() -> None:
    joined = [Subject("casme2", "sub01"), Subject("samm", "sub01"), Subject("samm", "006"), Subject("samm", "a/b")]
    assert find_subjects(["samm/sub01", "006", "samm/006", "a/b"], joined) == (joined[1], joined[2], joined[3])
    assert list(label_subjects(joined).values()) == ["casme2/sub01", "samm/006", "samm/a/b", "samm/sub01"]
    assert label_subjects(joined[:1]) == {joined[0]: "sub01"}
    assert find_subjects([], joined) == ()
    with pytest.raises(UserError, match="no subject sub99, x in the data: it has casme2/sub01, samm/006"):
        find_subjects(["sub99", "006", "x"], joined)
    with pytest.raises(UserError, match="sub01 could be sub01 of casme2 and sub01 of samm: give it as SOURCE/SUBJECT"):
        find_subjects(["sub01"], joined)
    with pytest.raises(UserError, match="x/y could be x/y of s and y of x"):
        find_subjects(["x/y"], [Subject("x", "y"), Subject("s", "x/y")])


def test_defect_08_every_name_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [safe_folder(name) for name in HOSTILE]
    for folder in folders:
        (tmp_path / folder).mkdir()
        assert len(os.fsencode(folder)) <= LONGEST_FILE
        assert folder.isascii()
    for one, other in itertools.combinations(folders, 2):
        assert one.casefold() != other.casefold()
    assert safe_folder("sub01") == "sub01"
    assert safe_folder("EP02_01f").startswith("EP02_01f~")
    assert all(len(safe_folder(name, 40)) <= 40 for name in HOSTILE)
    assert len({safe_folder(name, 40).casefold() for name in HOSTILE}) == len(HOSTILE)
    assert safe_folder(safe_folder("a/b")) != safe_folder("a/b")


def test_messages_show_special_characters_as_escapes() -> None:
    assert shown("a\n\x1b[0m\ud800é") == "a\\n\\x1b[0m\\ud800é"
    assert shown("") == "''"
    assert len(shown("x" * 5000)) < 60
