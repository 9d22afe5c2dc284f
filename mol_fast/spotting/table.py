"""The table of moments that programs write as moments.csv."""

from collections.abc import Iterable
from typing import Any

from mol_fast.spotting.spotter import Moment
from mol_fast.utils.tables import csv_table

COLUMNS = (
    *("onset", "apex", "offset", "onset_seconds", "apex_seconds", "offset_seconds", "kind"),
    *("class", "probability", "strength", "regions", "person", "sentence", "action_units"),
)


def moments_csv(moments: Iterable[Moment]) -> str:
    """Return a CSV table, one line a moment; without moments it is the header alone. What is not known is empty."""
    rows = (moment_row(moment) for moment in moments)
    return csv_table(({name: "" if value is None else value for name, value in row.items()} for row in rows), COLUMNS)


def moment_row(moment: Moment) -> dict[str, Any]:
    """Return a moment as plain values by column; None is what is not known."""
    return {
        "onset": moment.onset,
        "apex": moment.apex,
        "offset": moment.offset,
        "onset_seconds": round(moment.onset_seconds, 6),
        "apex_seconds": round(moment.apex_seconds, 6),
        "offset_seconds": round(moment.offset_seconds, 6),
        "kind": moment.kind,
        "class": moment.label,
        "probability": None if moment.probability is None else round(moment.probability, 4),
        "strength": round(moment.strength, 3),
        "regions": "; ".join(map(str, moment.regions)),
        "person": moment.person,
        "sentence": moment.sentence,
        "action_units": None if moment.units is None else "; ".join(map(str, moment.units)),
    }
