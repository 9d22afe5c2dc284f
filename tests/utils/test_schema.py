"""JSON that anybody may have written is read as the type that is asked for, or refused with one sentence."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from mol_fast.utils.errors import UserError
from mol_fast.utils.schema import Count, Text, check_unique, parse_json, read_json


class Thing(msgspec.Struct):
    name: Text
    frames: Count = 0
    rate: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    kind: Literal["a", "b"] = "a"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_unique(self.classes, "class")


def sentence(data: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        parse_json(data, Thing, "x.json", "write it again")
    text = str(caught.value)
    assert text.startswith("x.json: ")
    assert text.endswith("; write it again")
    assert "\n" not in text
    return text[len("x.json: ") : -len("; write it again")]


def test_defect_07_a_number_of_5000_digits_is_refused_at_the_door():
    assert sentence('{"name": "x", "frames": ' + "9" * 5000 + "}") == "integer value out of range at frames"
    assert sentence('{"name": "x", "rate": ' + "9" * 5000 + "}") == "number out of range at rate"


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
def test_defect_07_deep_nesting_is_refused_at_the_door(start: str, end: str):
    deep = start * 200_000 + "1" + end * 200_000
    assert sentence(f'{{"name": "x", "unknown": {deep}}}') == "nested too deeply"
    with pytest.raises(UserError, match="x: nested too deeply; y"):
        parse_json(deep, dict[str, object] if start != "[" else list[object], "x", "y")


def test_door_keeps_a_sentence_short():
    key = "k" * 1_000_000
    assert len(sentence(f'{{"{key}": 1, "{key}": 2, "name": "x"}}')) < 300
    assert len(sentence(f'{{"kind": "{key}", "name": "x"}}')) < 300


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not valid JSON (input data was truncated)"),
        ('{"name": "x"', "not valid JSON (input data was truncated)"),
        ('{"name": "x"} x', "not valid JSON (trailing characters (byte 15))"),
        ('{"name": NaN}', "not valid JSON (invalid character (byte 9))"),
        ('{"name": "\\ud800"}', "not valid JSON"),
        ("[]", "expected object, got array"),
        ("{}", "object missing required field name"),
        ('{"name": []}', "expected str, got array at name"),
        ('{"name": ""}', "expected str of length >= 1 at name"),
        ('{"name": "x", "frames": -1}', "expected int >= 0 at frames"),
        ('{"name": "x", "frames": true}', "expected int, got bool at frames"),
        ('{"name": "x", "rate": 0}', "expected float > 0.0 at rate"),
        ('{"name": "x", "kind": "c"}', "invalid enum value 'c' at kind"),
        ('{"name": "x", "classes": ["a", "a"]}', "the class 'a' occurs twice"),
        ('{"name": "x", "classes": ["a", 1]}', "expected str, got int at classes[1]"),
        ('{"name": "x", "name": "y"}', "the key 'name' occurs twice"),
        ('{"name": "x", "other": {"a": 1, "a": 2}}', "the key 'a' occurs twice"),
        (b'{"name": "\xff"}', "not UTF-8 text"),
    ],
)
def test_door_refuses_what_does_not_fit_the_type(text: str | bytes, expected: str):
    assert expected in sentence(text)


def test_door_reads_what_fits():
    thing = parse_json(b'\xef\xbb\xbf{"name": "x", "rate": 2, "new": ' + b"9" * 5000 + b"}", Thing, "x", "y")
    assert thing == Thing("x", rate=2.0)
    assert parse_json('{"a": 1}', dict[str, int], "x", "y") == {"a": 1}


def test_door_bounds_the_size_of_a_file(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text('{"name": "x"}')
    assert read_json(path, Thing, "write it again") == Thing("x")
    with pytest.raises(UserError, match=r"x\.json: larger than 0 MB; write it again"):
        read_json(path, Thing, "write it again", largest=5)


def test_door_names_a_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UserError, match=r"x\.json: there is no such file; write it again"):
        read_json(tmp_path / "x.json", Thing, "write it again")
    with pytest.raises(UserError, match="not a file; write it again"):
        read_json(tmp_path, Thing, "write it again")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / ("x" * 300), Thing, "write it again")
