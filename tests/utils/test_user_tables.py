"""Tables of people and spreadsheets: encoding and delimiter are found, and what would be misread is refused."""

from pathlib import Path

import pytest

from mol_fast.utils import user_tables
from mol_fast.utils.errors import UserError
from mol_fast.utils.user_tables import header_name, read_user_table, shown_header, user_path


def read(tmp_path: Path, data: bytes) -> list[list[str]]:
    (tmp_path / "a.csv").write_bytes(data)
    return read_user_table(tmp_path / "a.csv", "save it again")


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"", []),
        (b"a\nb\n", [["a"], ["b"]]),
        (
            b"one, two, three, four\na;b\nc;d\ne;f\ng;h",
            [["one, two, three, four"], *map(list, ["ab", "cd", "ef", "gh"])],
        ),
        (b"sep=;\r\na,b;c\r\n", [[], ["a,b", "c"]]),
        (b'"sep=\t"\na\tb', [[], ["a", "b"]]),
        (b'a, "b, c",d \n', [["a", "b, c", "d"]]),
        (b'a;"b;""c"""\n', [["a", 'b;"c"']]),
        ('a,"line\nbreak"\n'.encode("utf-16"), [["a", "line\nbreak"]]),
        (b"\xe9t\xe9,\xdcber\n", [["été", "Über"]]),
        (b"a\r\n\r\nb", [["a"], [], ["b"]]),
    ],
)
def test_defect_23_door_finds_encoding_and_delimiter(tmp_path: Path, data: bytes, rows: list[list[str]]):
    assert read(tmp_path, data) == rows


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("标签,主体".encode("gb18030"), "it is not UTF-8, byte 0"),
        ("дата,метка".encode("cp1251"), "it is not UTF-8, byte 0"),
        (b"a,\x81\n", "is not a CSV table"),
        (b"a\0b", "zero bytes"),
        (b'"a', "is not a CSV table"),
        (b"a" * 200_000, "field larger than field limit"),
    ],
)
def test_door_refuses_what_would_be_misread(tmp_path: Path, data: bytes, sentence: str):
    with pytest.raises(UserError, match=sentence) as caught:
        read(tmp_path, data)
    assert str(caught.value).endswith("; save it again")


def test_defect_10_door_bounds_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(user_tables, "MOST_ROWS", 3)
    monkeypatch.setattr(user_tables, "MOST_COLUMNS", 3)
    monkeypatch.setattr(user_tables, "LARGEST_TABLE", 20)
    assert len(read(tmp_path, b"a,b,c\n" * 3)) == 3
    for data, sentence in (
        (b"a\n" * 4, "more than 3 rows"),
        (b"a,b,c,d\n", "more than 3 cells"),
        (b"a" * 21, "larger than 0 MB"),
    ):
        with pytest.raises(UserError, match=sentence):
            read(tmp_path, data)


def test_door_names_the_columns_of_a_table_in_one_short_line():
    assert shown_header(["a", "b\nc", "x" * 1000]) == f"a, b\\nc, {'x' * 30}...{'x' * 15}"
    assert len(shown_header(["x"] * 1000)) < 100


def test_names_of_columns_and_paths(tmp_path: Path):
    assert header_name(" Estimated_  Emotion ") == header_name("estimated emotion") == "estimated emotion"
    assert user_path(tmp_path, "a\\b/c") == Path("a/b/c")
    (tmp_path / "a\\b").touch()
    assert user_path(tmp_path, "a\\b") == Path("a\\b")
