"""Names that users give: what they may be, how they identify subjects and videos, and which folders they make.

A subject is (source, name) and a video is (source, subject, name), in memory and in every table. They are never joined
to one text that would have to be split again, as "a/x" + "v" and "a" + "x/v" look the same then.
"""

import hashlib
import string
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from mol_fast.utils.errors import UserError
from mol_fast.utils.schema import check_unique

LONGEST_NAME = 200
"""Longest name in bytes of UTF-8, so that `NAME.safetensors` fits into a folder."""
LONGEST_FILE = 255
"""Longest name of a file or folder in bytes, on all usual file systems."""

_PLAIN = frozenset(string.ascii_lowercase + string.digits + "_-")
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder the text around them
_HASH_DIGITS = 12


class Subject(NamedTuple):
    """Identity of a subject: the data set that it comes from, and its name there."""

    source: str
    name: str

    def __str__(self) -> str:
        """SOURCE/NAME, to show and to look up, never to split."""
        return f"{self.source}/{self.name}"


class VideoId(NamedTuple):
    """Identity of a video: the data set that it comes from, the name of its subject, and its own name."""

    source: str
    subject: str
    name: str

    @property
    def person(self) -> Subject:
        """The subject of the video."""
        return Subject(self.source, self.subject)

    def __str__(self) -> str:
        """SOURCE/SUBJECT/NAME, to show, never to split."""
        return f"{self.source}/{self.subject}/{self.name}"


def find_subjects(asked: Iterable[str], subjects: Collection[Subject]) -> tuple[Subject, ...]:
    """Look up subjects by their names as users spell them: NAME, or SOURCE/NAME where several sets share a name.

    Args:
        asked: the spellings; one that is repeated counts once.
        subjects: the subjects of the data.

    Raises:
        UserError: a spelling fits no subject, or several.
    """
    spelled: dict[str, set[Subject]] = {}
    for subject in subjects:
        for text in (subject.name, str(subject)):
            spelled.setdefault(text, set()).add(subject)
    asked = list(dict.fromkeys(asked))
    if unknown := [shown(text) for text in asked if text not in spelled]:
        known = ", ".join(label_subjects(subjects).values())
        raise UserError(f"there is no subject {', '.join(unknown)} in the data: it has {known}")
    for text in asked:
        if len(spelled[text]) > 1:
            several = " and ".join(f"{subject.name} of {subject.source}" for subject in sorted(spelled[text]))
            raise UserError(f"the subject {text} could be {several}: give it as SOURCE/SUBJECT, or rename one")
    return tuple(dict.fromkeys(subject for text in asked for subject in spelled[text]))


def label_subjects(subjects: Iterable[Subject]) -> dict[Subject, str]:
    """Return how to show each subject, sorted: NAME if all come from one source, else SOURCE/NAME."""
    ordered = sorted(set(subjects))
    several = len({subject.source for subject in ordered}) > 1
    return {subject: str(subject) if several else subject.name for subject in ordered}


def name_problem(text: str, most: int = LONGEST_NAME) -> str | None:
    """Return why `text` cannot be a name of a subject, video, label, class, source or set; None if it can.

    File systems, tables and terminals must be able to carry a name: it is not empty, has at most `most` bytes, no
    control character or line end, no half of a character, and no white space around it.
    """
    if not text.strip():
        return "it is empty"
    if text != text.strip():
        return "white space stands around it"
    for character in text:
        if unicodedata.category(character) in _UNPRINTABLE or character in _DIRECTIONS:
            return f"it contains the character U+{ord(character):04X}, which cannot be shown"
    size = len(text.encode())
    return f"it has {size} bytes, at most {most} are possible" if size > most else None


def check_name(kind: str, text: str, where: str) -> None:
    """Raise UserError if `text` cannot be a name.

    Args:
        kind: what is named, for the message: subject, video, label, source, class, set.
        text: the name.
        where: where the name stands, for the message: a file, or a file and a line.
    """
    problem = name_problem(text)
    if problem is not None:
        raise UserError(f"{where} has the {kind} {shown(text)}, which cannot be used: {problem}; rename it")


def check_classes(names: Sequence[str]) -> None:
    """Raise ValueError if a name of a class cannot be used or occurs twice; for `__post_init__` of a Struct."""
    check_unique(names, "class")
    for name in names:
        if problem := name_problem(name):
            raise ValueError(f"the class {shown(name)} cannot be used: {problem}")


def check_folder_name(text: str, where: str, most: int = LONGEST_NAME) -> None:
    """Raise UserError if `text` is not the name of one folder, so that it could lead elsewhere.

    Args:
        text: the name.
        where: option or file that gives the name, for the message.
        most: largest size in bytes.
    """
    problem = name_problem(text, most)
    if problem is None and (text in (".", "..") or "/" in text or "\\" in text):
        problem = "it is a path, give the name of one folder"
    if problem is not None:
        raise UserError(f"{where} is {shown(text)}, which cannot be the name of a folder: {problem}")


def shown(text: str, most: int = 60) -> str:
    """Return `text` as a message can show it: special characters as escapes, and the middle of a long text left out."""
    safe = printable(text)
    return f"{safe[: most // 2]}...{safe[-most // 4 :]}" if len(safe) > most else safe or "''"


def printable(text: str, keep: str = "") -> str:
    """Return `text` with escapes for the characters that a terminal would act upon, except those in `keep`."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def safe_folder(text: str, most: int = LONGEST_FILE) -> str:
    """Return the name of a folder for any text, the same on every machine; two texts never share a folder.

    Text of lower-case ASCII letters, digits, "_" and "-" stays as it is. Else everything but ASCII letters and digits
    becomes "_", and a digest of the text follows, as it does when a long name is cut. So names that differ only in
    case or in special characters have different folders, even where the file system does not tell them apart.

    Args:
        text: the text; not empty.
        most: largest size in bytes.
    """
    if text and _PLAIN.issuperset(text):
        return shortened(text, most)
    kept = "".join(c if c in _PLAIN or (c.isascii() and c.isalnum()) else "_" for c in text)
    return shortened(kept, most, _digest(text))


def shortened(name: str, most: int = LONGEST_FILE, digest: str = "") -> str:
    """Return `name`, ~ and `digest`; if it has over `most` bytes, cut it and use a digest of the whole name by default.

    The sign ~ is in no other folder name, so a cut name never equals a name that was not cut.
    """
    if not digest and len(name) <= most:
        return name
    return f"{name[: most - _HASH_DIGITS - 1]}~{digest or _digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
