"""The header of a file of weights: what is known about their training. It is read without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from safetensors import SafetensorError, safe_open

from mol_fast.nn.locate import AGAIN
from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import MOST_CLASSES
from mol_fast.utils.names import Subject, check_classes
from mol_fast.utils.schema import Count, Text, parse_json

FORMAT = 1
"""Format of the header. A file without one has format 1; one with a higher number comes from a newer version."""
KEY = "mol_fast"
ADVICE = "train again with this version"

Span = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class WeightsHeader(msgspec.Struct, frozen=True):
    """What is read of the header of weights; `save_weights` may store more.

    Attributes:
        config: configuration of the model, see `MOLConfig`.
        classes: names of the classes, in the order of the logits.
        protocol, preset: as in training.
        sources: sources of the data.
        train_subjects, test_subjects: subjects that the weights were trained on, and those held out.
        steps: number of optimiser steps.
        spans: shortest, median and longest span of a window in training, from its first to its last frame, in seconds.
        temperature: temperature that calibrates the probabilities, fitted on other folds; None if not fitted.
        format: see `FORMAT`.
    """

    config: dict[str, Any]
    classes: Annotated[tuple[Text, ...], msgspec.Meta(min_length=2, max_length=MOST_CLASSES)]
    protocol: Text | None = None
    preset: Text | None = None
    sources: tuple[Text, ...] = ()
    train_subjects: tuple[Subject | Text, ...] | None = None
    test_subjects: tuple[Subject | Text, ...] = ()
    steps: Count | None = None
    spans: tuple[Span, Span, Span] | None = None
    temperature: Annotated[float, msgspec.Meta(gt=0)] | None = None
    format: Count = 1

    def __post_init__(self) -> None:
        check_classes(self.classes)

    def learned_from(self) -> list[str]:
        """Return the sources of all training subjects; those of the last training alone, if no subjects are told."""
        known = {subject.source for subject in self.train_subjects or () if isinstance(subject, Subject)}
        return sorted(known or self.sources)


def read_header(file: Path) -> WeightsHeader:
    """Return the header of a weights file. Its tensors may still be damaged.

    Raises:
        UserError: it is not a weights file of this project.
    """
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise unreadable(file, error) from error
    return parse_header(file, text_of(file, metadata))


def parse_header(file: Path, text: str) -> WeightsHeader:
    """Return the header that is the text in a weights file.

    Raises:
        UserError: it is of a newer version, or cannot be used.
    """
    values = parse_json(text, dict[str, Any], f"the header of {file}", ADVICE)
    newest = values.get("format", 1)
    if isinstance(newest, int) and newest > FORMAT:
        raise UserError(
            f"{file} is of format {newest}, which a newer mol-fast writes, this one reads format {FORMAT}: install the "
            "newer one"
        )
    return parse_json(text, WeightsHeader, f"the header of {file}", ADVICE)


def text_of(file: Path, metadata: Mapping[str, str]) -> str:
    """Return the text of the header among the metadata of a file; raise UserError if there is none."""
    text = metadata.get(KEY)
    if text is None:
        raise UserError(
            f"{file} has no mol-fast header: for weights of the official code use mol_fast.load_official instead"
        )
    return text


def unreadable(file: Path, error: Exception) -> UserError:
    """Return the error that a file cannot be read at all."""
    return UserError(f"{file} is not a readable safetensors file ({error}): copy it again, or {AGAIN}")
