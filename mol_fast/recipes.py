"""Recipes: named sets of default settings, which options on the command line override."""

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
"""Settings of each recipe.

"released" follows the code released with the MOL paper. Four things differ: every clip is normalised by itself, not by
the mean and maximum of a subject's file; initial weights are those of this package, near the identity and the mean
face; every fold starts with new weights, while published code carries weights from fold to fold; scores come from
pooled videos, while published code scores windows or averages over folds.
"""


def recipe_of(argv: Sequence[str] | None) -> TrainSettings:
    """Return the settings of the recipe named in the options `argv`, or the defaults.

    Args:
        argv: the options. Default: those of the command line. The parser of the options reports unknown names.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = "default"
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--recipe":
            name = value or "".join(words[place + 1 : place + 2])
    return RECIPES[name if name in get_args(Recipe) else "default"]
