"""Protocols: which annotated labels make which classes."""

from collections.abc import Iterable
from dataclasses import dataclass

from mol_fast.data.store import Video
from mol_fast.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """Classes of an evaluation and the labels that make them.

    Attributes:
        name: as given on the command line.
        classes: the classes, in the order of the logits.
        mapping: class of each label, or None where videos of that label are left out.
    """

    name: str
    classes: tuple[str, ...]
    mapping: dict[str, str | None]

    def class_index(self, label: str) -> int | None:
        """Index into `classes` for an annotated label, None where the protocol leaves the label out.

        Raises:
            UserError: the protocol does not know the label.
        """
        if label not in self.mapping:
            raise UserError(
                f"The protocol {self.name} does not know the label {label!r}, only {', '.join(self.mapping)}; "
                "choose another protocol or correct the index."
            )
        name = self.mapping[label]
        return None if name is None else self.classes.index(name)

    def select(self, videos: Iterable[Video]) -> list[Video]:
        """The videos that the protocol uses, in the given order.

        Raises:
            UserError: a video has a label that the protocol does not know.
        """
        return [video for video in videos if self.class_index(video.label) is not None]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "embedded-3",
            ("negative", "positive", "surprise"),
            {
                "disgust": "negative",
                "repression": "negative",
                "happiness": "positive",
                "surprise": "surprise",
                "others": None,
            },
        ),
        Protocol(
            "embedded-5",
            ("surprise", "happiness", "disgust", "repression", "others"),
            {label: label for label in ("surprise", "happiness", "disgust", "repression", "others")},
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UserError: there is none.
    """
    if name not in PROTOCOLS:
        raise UserError(f"There is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
