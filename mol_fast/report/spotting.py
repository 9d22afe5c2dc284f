"""Print scores of spotting, and of spotting and recognition together, as a table."""

from statistics import mean, stdev

from mol_fast.evaluation.spotting import METHODS, LongResults
from mol_fast.metrics import Kind, SpottingCounts, StrsScore
from mol_fast.report.labels import SYNTHETIC
from mol_fast.utils.intervals import KINDS
from mol_fast.utils.terminal import make_console

_BASELINE = "main direction (baseline)"
_NONE = "-"


def print_spotting(results: LongResults) -> None:
    """Print the scores of the spotter and of the baseline side by side."""
    from rich.markup import escape
    from rich.table import Table

    console = make_console(width=100)
    count = len(results.recordings)
    title = "1 recording" if count == 1 else f"{count} recordings"
    if any(recording.source in SYNTHETIC for recording in results.recordings):
        title += ", synthetic data: published methods reach an F1 of a few hundredths on real videos"
    console.print(title, highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("")
    for name in (METHODS[0], _BASELINE):
        table.add_column(name, justify="right")
    for label, *cells in _rows(results):
        table.add_row(escape(label), *cells)
    console.print(table)


def _rows(results: LongResults) -> list[tuple[str, str, str]]:
    scores = [results.spotting(method) for method in METHODS]
    rows = [(f"F1 {name}", *(_f1(getattr(item, name)) for item in scores)) for name in (*KINDS, "both")]
    rows += [(f"{name} TP, FP, FN", *(_counted(getattr(item, name)) for item in scores)) for name in KINDS]
    rows.append(("found per minute", *(f"{item.found_per_minute:.2f}" for item in scores)))
    rows.append(("false per minute", *(f"{item.false_per_minute:.2f}" for item in scores)))
    parts: tuple[tuple[str, tuple[Kind, ...]], ...] = (("micro", KINDS[:1]), ("both", KINDS))
    for name, kinds in parts if results.recognisers else ():
        strs = [list(results.strs(method, kinds).values()) for method in METHODS]
        rows.append((f"UF1 of what was spotted, {name}", *map(_uf1, strs)))
        rows.append((f"STRS {name}", *(_spread([item.strs for item in of]) for of in strs)))
    return [(label, first, second) for label, first, second in rows]


def _f1(counts: SpottingCounts) -> str:
    return _NONE if counts.f1 is None else f"{counts.f1:.3f}"


def _counted(counts: SpottingCounts) -> str:
    return f"{counts.hits}, {counts.false}, {counts.missed}"


def _uf1(scores: list[StrsScore]) -> str:
    return _spread([item.recognition.uf1 for item in scores if item.recognition is not None])


def _spread(values: list[float]) -> str:
    if not values:
        return _NONE
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
