"""Recipes: settings under one name, that stand where the command line does not say otherwise."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from mol_fast.settings import Recipe, TrainSettings

RECIPES: dict[str, TrainSettings] = {
    "default": TrainSettings(),
    "released": replace(
        TrainSettings(),
        recipe="released",
        preset="official",
        steps=1000,
        batch_size=32,
        lr=1e-4,
        warmup=0,
        schedule="constant",
        weight_decay=1e-3,
        clip_norm=0.0,
        expression_weight=1.0,
        flow_weight=10.0,
        landmark_weight=0.5,
        selection="test",
        precision="float32",
    ),
}
"""What each recipe sets.

"released" is what the code that was released with the MOL paper uses, as far as it can be repeated. What differs:
clips are normalised each by itself, not by the mean and maximum of a subject's file; new weights start as everywhere
here, near the identity and the mean face; every fold starts anew, where published code carries weights from fold to
fold; and scores are taken from the pooled videos, where published code takes windows or the mean over folds.
"""


def recipe_of(argv: Sequence[str] | None) -> TrainSettings:
    """The settings of the recipe that the options `argv` (None: the command line) name, the default ones without.

    A name that there is not is left to the parser of the options to complain about.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = "default"
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--recipe":
            name = value or "".join(words[place + 1 : place + 2])
    return RECIPES[name if name in get_args(Recipe) else "default"]
