"""Protocols: classes, the labels that map to them, and the expected numbers of videos and subjects.

The counts come from the published protocols of CASME II, SAMM and SMIC-HS, and of the Micro-Expression Grand Challenge
2019, which joins their three-class protocols.
"""

import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mol_fast.utils.errors import UserError


class Annotated(typing.Protocol):
    """An annotated video, prepared or raw, as a protocol sees it."""

    @property
    def subject(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def source(self) -> str: ...


V = typing.TypeVar("V", bound=Annotated)


@dataclass(frozen=True)
class Counts:
    """Number of videos of each class, and number of subjects, None if it is not published."""

    classes: Mapping[str, int]
    subjects: int | None


@dataclass(frozen=True)
class Protocol:
    """Classes of an evaluation, and the labels that map to them.

    Attributes:
        name: as given on the command line.
        classes: the classes, in the order of the logits.
        mapping: class of each label, or None to ignore videos with this label.
        excluded: (subject, name) of videos that are ignored whatever their label.
        counts: expected counts, one entry per release of the annotation; empty if unknown.
        parts: for a composite, the protocol of each source. All have the same classes, and `mapping` is empty.
    """

    name: str
    classes: tuple[str, ...]
    mapping: Mapping[str, str | None]
    excluded: frozenset[tuple[str, str]] = frozenset()
    counts: tuple[Counts, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    def is_for(self, data_set: str) -> bool:
        """Return whether this is the protocol of a data set alone: its name is that of the set and one more word."""
        return self.name.rpartition("-")[0] == data_set

    def class_index(self, label: str) -> int | None:
        """Return the index into `classes` for an annotated label, or None if the protocol ignores the label.

        Raises:
            UserError: the protocol does not know the label.
        """
        if label not in self.mapping:
            raise UserError(
                f"the protocol {self.name} does not know the label {label!r}, only {', '.join(self.mapping)}; "
                "choose another protocol or correct the index"
            )
        name = self.mapping[label]
        return None if name is None else self.classes.index(name)

    def class_of(self, video: Annotated) -> int | None:
        """Return the index into `classes` for a video, or None if the protocol ignores it.

        Raises:
            UserError: the protocol does not know the label, or a composite does not know the source.
        """
        if self.parts:
            return self.part(video.source).class_of(video)
        if (video.subject, video.name) in self.excluded:
            return None
        return self.class_index(video.label)

    def part(self, source: str) -> "Protocol":
        """Return the protocol for videos of `source`: a part of a composite, or this protocol.

        Raises:
            UserError: the composite does not know the source.
        """
        if not self.parts:
            return self
        if source not in self.parts:
            raise UserError(
                f"the protocol {self.name} joins {', '.join(self.parts)} and does not know {source!r}; "
                "choose another protocol"
            )
        return PROTOCOLS[self.parts[source]]

    def select(self, videos: Iterable[V]) -> list[V]:
        """Return the videos that the protocol uses, in the given order.

        Raises:
            UserError: the protocol does not know the label or the source of a video.
        """
        return [video for video in videos if self.class_of(video) is not None]


_THREE = ("negative", "positive", "surprise")
_THREE_AS_THEY_ARE = {name: name for name in _THREE}  # for sets whose labels are already these classes
_CASME2_FIVE = ("surprise", "happiness", "disgust", "repression", "others")
_SAMM_FIVE = ("surprise", "happiness", "anger", "contempt", "others")


def _same(names: Iterable[str], *left_out: str) -> dict[str, str | None]:
    return {name: name for name in names} | dict.fromkeys(left_out)


def _counts(names: Iterable[str], videos: Iterable[int], subjects: int | None) -> Counts:
    return Counts(dict(zip(names, videos, strict=True)), subjects)


_SEVEN_OTHERS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "others")
_HAPPY_AND_SAD = _same(_SEVEN_OTHERS) | {"happy": "happiness", "sad": "sadness"}
_DFME_SEVEN = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
_SEVEN_TO_THREE: dict[str, str | None] = {
    **dict.fromkeys(("anger", "contempt", "disgust", "fear", "repression", "sad", "sadness"), "negative"),
    **dict.fromkeys(("happiness", "happy"), "positive"),
    **dict.fromkeys(("others", "tense"), None),
    **_THREE_AS_THEY_ARE,
}
"""For sets without a published protocol of three classes: what is neither good nor bad is left out."""

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "embedded-3",
            _THREE,
            {
                "disgust": "negative",
                "repression": "negative",
                "happiness": "positive",
                "surprise": "surprise",
                "others": None,
            },
        ),
        Protocol("embedded-5", _CASME2_FIVE, _same(_CASME2_FIVE)),
        Protocol(
            "casme2-5",
            _CASME2_FIVE,
            _same(_CASME2_FIVE, "fear", "sadness"),
            counts=(
                _counts(_CASME2_FIVE, (25, 32, 63, 27, 99), 26),
                _counts(_CASME2_FIVE, (28, 32, 63, 27, 99), 26),  # the sheet of 2019
            ),
        ),
        Protocol(
            "casme2-3",
            _THREE,
            {
                "disgust": "negative",
                "repression": "negative",
                "happiness": "positive",
                "others": None,
                "fear": None,
                "sadness": None,
            }
            | _THREE_AS_THEY_ARE,
            excluded=frozenset(
                (
                    ("sub04", "EP12_01f"),
                    ("sub05", "EP09_05f"),
                    ("sub24", "EP07_01"),  # these three are surprise in the sheet of 2019 only
                    ("sub24", "EP07_04f"),
                    ("sub24", "EP10_03"),
                )
            ),
            counts=(_counts(_THREE, (88, 32, 25), 24),),
        ),
        Protocol(
            "samm-5",
            _SAMM_FIVE,
            _same(_SAMM_FIVE, "disgust", "fear", "sadness"),
            counts=(_counts(_SAMM_FIVE, (15, 26, 57, 12, 26), 27),),
        ),
        Protocol(
            "samm-3",
            _THREE,
            {
                "anger": "negative",
                "contempt": "negative",
                "disgust": "negative",
                "fear": "negative",
                "sadness": "negative",
                "happiness": "positive",
                "others": None,
            }
            | _THREE_AS_THEY_ARE,
            counts=(_counts(_THREE, (92, 26, 15), 28),),
        ),
        Protocol("casme-3", _THREE, _SEVEN_TO_THREE),
        Protocol("casme-sq-3", _THREE, _same(_THREE, "others")),
        Protocol("casme-sq-4", (*_THREE, "others"), _same((*_THREE, "others"))),
        Protocol(
            "casme3-7",
            _SEVEN_OTHERS,
            _HAPPY_AND_SAD,
            counts=(_counts(_SEVEN_OTHERS, (64, 250, 86, 55, 57, 187, 161), 94),),
        ),
        Protocol("casme3-3", _THREE, _SEVEN_TO_THREE, counts=(_counts(_THREE, (457, 55, 187), None),)),
        Protocol(
            "casme3-c-4",
            (*_THREE, "others"),
            _same((*_THREE, "others")),
            counts=(_counts((*_THREE, "others"), (99, 16, 30, 20), 30),),
        ),
        Protocol("casme3-c-3", _THREE, _same(_THREE, "others"), counts=(_counts(_THREE, (99, 16, 30), None),)),
        Protocol("mmew-7", _SEVEN_OTHERS, _HAPPY_AND_SAD),
        Protocol("mmew-3", _THREE, _SEVEN_TO_THREE),
        Protocol("4dme-3", _THREE, _SEVEN_TO_THREE),
        Protocol(
            "dfme-7",
            _DFME_SEVEN,
            _same(_DFME_SEVEN),
            counts=(_counts(_DFME_SEVEN, (161, 100, 548, 265, 206, 278, 298), 176),),  # the training part
        ),
        Protocol("dfme-3", _THREE, _SEVEN_TO_THREE, counts=(_counts(_THREE, (1352, 206, 298), 176),)),
        Protocol("smic-3", _THREE, _same(_THREE), counts=(_counts(_THREE, (70, 51, 43), 16),)),
        Protocol(
            "cross-3",
            _THREE,
            {},
            parts={
                name: f"{name}-3"
                for name in (
                    "4dme",
                    "casme",
                    "casme-sq",
                    "casme2",
                    "casme3",
                    "casme3-c",
                    "dfme",
                    "mmew",
                    "samm",
                    "smic",
                )
            },
        ),
        Protocol(
            "megc2019",
            _THREE,
            {},
            counts=(_counts(_THREE, (250, 109, 83), 68),),
            parts={"casme2": "casme2-3", "samm": "samm-3", "smic": "smic-3"},
        ),
    )
}


def label_protocol(videos: Iterable[Annotated]) -> Protocol:
    """Return a protocol in which every label is a class, in alphabetical order; for sets without a protocol.

    Raises:
        UserError: there are fewer than two labels.
    """
    labels = tuple(sorted({video.label for video in videos}))
    if len(labels) < 2:
        raise UserError(f"the videos have {len(labels)} different labels: at least two classes are needed")
    return Protocol("labels", labels, _same(labels))


def get_protocol(name: str) -> Protocol:
    """Return the protocol called `name`.

    Raises:
        UserError: there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
