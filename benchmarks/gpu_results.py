"""Make tables, chart and best tiles from a run on a GPU: python benchmarks/gpu_results.py FOLDER

FOLDER is the result of `benchmarks/gpu_session.py`. Writes CARD.json, CARD.md and CARD.png into benchmarks/results/,
and the best tiles into kernels/tiles.json. Missing measurements are listed.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from chart import draw
from gpu_stages import plan
from gpu_stages.records import DamagedRecords, Record, of_kind, read
from gpu_stages.search import Rows, merge, tree
from table import duration

from mol_fast.utils.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TILES = ROOT / "benchmarks" / "results", ROOT / "kernels" / "tiles.json"
VERSION = 1
BACKENDS = ("triton", "torch", "torch.compile")
STEPS = {
    "eager": "queued from Python",
    "graph": "CUDA graph",
    "compiled": "torch.compile",
}
PARTS = {
    "smoke": "smoke",
    "times": "time",
    "steps": "step",
    "profiles": "profile",
    "tests": "tests",
    "memcheck": "memcheck",
    "ncu": "ncu",
    "doctor": "doctor",
    "tuned": "tuned",
    "confirmed": "confirmed",
}
"""Kind of records for each name in CARD.json."""


def load(folder: Path, partial: bool, rehearsal: bool) -> list[Record]:
    """Read the records of a whole run.

    Raises:
        DamagedRecords: the folder holds no run of this version; the run was cut off (unless `partial`), is a rehearsal
            (unless `rehearsal`), or does not name its card.
    """
    records = read(folder / "results.jsonl")
    header = records[0]
    if header["kind"] != "run" or header.get("version") != VERSION or not isinstance(header.get("stages"), list):
        raise DamagedRecords(
            f"{folder} is not a run of this version of gpu_session.py, its first record says otherwise"
        )
    if not of_kind(records, "end") and not partial:
        raise DamagedRecords(f"the run in {folder} was cut off before its end, give --partial to use its results")
    if header["rehearsal"] and not rehearsal:
        raise DamagedRecords(f"{folder} is a rehearsal, its times do not come from a GPU")
    if not slug(card_of(records)):
        raise DamagedRecords(f"the run in {folder} does not know its card, as its first stage failed")
    return records


def card_of(records: list[Record]) -> str:
    return next((str(row["name"]) for row in of_kind(records, "card") if row.get("name")), "")


def slug(card: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")


def gaps(records: list[Record]) -> list[str]:
    """Return what the run did not measure or found wrong, with reasons."""
    header, found = records[0], []
    errors = {row["stage"]: row["error"] for row in of_kind(records, "error")}
    states = {row["stage"]: row for row in of_kind(records, "stage")}
    for name in plan.NAMES:
        state = states.get(name, {}).get("state")
        if name not in header["stages"]:
            found.append(f"{name}: was not asked for.")
        elif state is None:
            found.append(f"{name}: was not reached.")
        elif state == "started":
            found.append(f"{name}: was cut off.")
        elif state == "killed":
            found.append(f"{name}: was killed at its deadline, after {states[name]['seconds']:.0f} s.")
        elif state == "failed":
            found.append(f"{name}: {errors.get(name, 'it ended with an error')}.")
    for row in of_kind(records, "smoke"):
        if not row["ok"]:
            what = "has not been checked" if row["ok"] is None else "fails"
            found.append(f"{row['operator']} {row['dtype']} {what}: {row['problem']}.")
    for row in (*of_kind(records, "tuning_base"), *of_kind(records, "confirmed")):
        if row.get("problem"):
            what = " ".join(row[key] for key in ("operator", "dtype", "phase") if key in row)
            found.append(f"tiles of {what} stay as they are pinned: {row['problem']}.")
    for row in of_kind(records, "time"):
        if row.get("problem"):
            found.append(f"{label(row)}, {row['backend']} {row['dtype']}: {row['problem']}.")
    for row in of_kind(records, "step"):
        if row.get("problem"):
            found.append(f"training step, {row['what']} {row['backend']} {row['dtype']}: {row['problem']}.")
    return found


def label(row: Record) -> str:
    what = "forward+backward" if row["training"] else "forward"
    return f"{row['name']} {what} (N = {row['maps']})"


def conditions(records: list[Record]) -> str:
    """Return the conditions of the run in one line: card, rates, versions, date, commit."""
    header, machine = records[0], next(row for row in of_kind(records, "card") if row.get("name"))
    versions = machine["machine"]
    ceilings = of_kind(records, "ceilings")
    parts = [machine["name"]]
    if ceilings and ceilings[-1].get("copy"):
        product = ", ".join(f"{rate / 1e12:.0f} TFLOP/s {name}" for name, rate in ceilings[-1]["product"].items())
        parts.append(f"measured copy {ceilings[-1]['copy'] / 1e12:.2f} TB/s, products {product}")
    parts.append(f"torch {versions['torch']}, triton {versions['triton']}, CUDA {versions['cuda']}")
    parts.append(
        f"{header['started'][:10]}, commit {header['commit'][:10]}{'+' if header['commit'].endswith('+') else ''}"
    )
    return "; ".join(parts) + (" (rehearsal on a CPU)" if header["rehearsal"] else "")


def times_table(records: list[Record]) -> list[str]:
    """Return README's table: kernel and eager time of Triton, kernel time of the others, the floor."""
    rows: dict[tuple[str, str], dict[str, Record]] = {}
    for row in of_kind(records, "time"):
        if row.get("eager_s"):
            rows.setdefault((label(row), row["dtype"]), {})[row["backend"]] = row
    lines = [
        "| | dtype | Triton, kernel | Triton, eager | PyTorch, kernel | torch.compile, kernel | floor | share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name, dtype), row in rows.items():
        ours = row.get("triton", {})
        floor, kernel = next(iter(row.values()))["floor_s"], ours.get("kernel_s")
        cells = [duration(ours[key]) if ours.get(key) else "" for key in ("kernel_s", "eager_s")]
        for backend in ("torch", "torch.compile"):
            seconds = row.get(backend, {}).get("kernel_s")
            factor = f" ({seconds / kernel:.1f}x)" if seconds and kernel else ""
            cells.append(f"{duration(seconds)}{factor}" if seconds else "")
        share = f"{floor / kernel:.0%}" if kernel else ""
        lines.append(f"| {name} | {dtype} | " + " | ".join(cells) + f" | {duration(floor)} | {share} |")
    return lines if rows else []


def steps_table(records: list[Record]) -> list[str]:
    found = [row for row in of_kind(records, "step") if row.get("seconds") and row["what"] in STEPS]
    lines = ["| training step | clips | dtype | operators | time | memory |", "|---|---|---|---|---|---|"]
    for row in found:
        memory = f"{row['memory'] / 2**30:.1f} GiB" if row.get("memory") else ""
        operators = "Triton" if row["backend"] == "triton" else "PyTorch"
        cells = (STEPS[row["what"]], row["clips"], row["dtype"], operators, duration(row["seconds"]), memory)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines if found else []


def tiles_table(records: list[Record]) -> list[str]:
    found = [row for row in of_kind(records, "tuned") if row["kept"]]
    lines = ["| kernel | class | dtype | pinned | best |", "|---|---|---|---|---|"]
    for row in found:
        base, best = (", ".join(f"{key} {value}" for key, value in row[name].items()) for name in ("base", "best"))
        lines.append(f"| {row['kernel']} | {', '.join(row['classes'])} | {row['dtype']} | {base} | {best} |")
    return lines if found else []


def checks(records: list[Record]) -> list[str]:
    """Return a line per kind of check."""
    lines = []
    smoke = [row for row in of_kind(records, "smoke") if row["ok"] is not None]
    if smoke:
        lines.append(f"- {sum(row['ok'] for row in smoke)} of {len(smoke)} checks of operators within their budget.")
    for row in of_kind(records, "tests"):
        outcomes = ", ".join(f"{count} {name}" for name, count in row["outcomes"].items()) or "none ran"
        unfinished = f", {len(row['unfinished'])} did not end" if row["unfinished"] else ""
        lines.append(f"- GPU tests: {outcomes}{unfinished}.")
    for row in of_kind(records, "memcheck"):
        errors = "gave no summary" if row["errors"] is None else f"{row['errors']} errors"
        lines.append(f"- memcheck of {row['operator']}: {errors}.")
    for row in of_kind(records, "step"):
        if row["what"] == "no_waiting" and row.get("waits") is False:
            lines.append("- a training step does not make the host wait for the GPU.")
    for row in of_kind(records, "doctor"):
        lines.append(f"- doctor: {'all is well' if row['ok'] else '; '.join(row['wrong'] or ['no findings'])}.")
    return lines


def markdown(records: list[Record], chart: str | None) -> str:
    """Return the text of CARD.md; its first table is README's."""
    lines = [conditions(records) + ".", ""]
    sections = [
        (
            "Median times; kernel: replay of a CUDA graph, eager: calls queued from Python; (x): Triton's factor.",
            times_table,
        ),
        ("A training step of the whole model, optimiser included.", steps_table),
        ("Checks.", checks),
        ("Tiles that were faster than the pinned ones.", tiles_table),
    ]
    for title, make in sections:
        if found := make(records):
            lines += [title, "", *found, ""]
    lines += ["Not measured, or wrong:", "", *(f"- {gap}" for gap in gaps(records) or ["nothing."]), ""]
    if chart:
        lines += [f"![Kernel times by backend]({chart})", ""]
    return "\n".join(lines)


def chart_rows(records: list[Record]) -> dict[str, dict[tuple[str, str], dict[str, Any]]]:
    """Return kernel times in the form of `chart.draw`."""
    rows: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for row in of_kind(records, "time"):
        seconds = row.get("kernel_s")
        if seconds:
            stats = {"median": seconds, "q1": seconds, "q3": seconds}
            info = {"roofline_share": row["floor_s"] / seconds, "matrix_share": 0.0}
            rows.setdefault(label(row), {})[row["backend"], row["dtype"]] = {"stats": stats, "extra_info": info}
    return rows


def merged_tiles(table: Rows, records: list[Record], name: str) -> Rows:
    """Add the tiles that this run confirmed to the table of best tiles; other cards and shapes are unchanged."""
    card, versions = card_of(records), next(row["machine"] for row in of_kind(records, "card") if row.get("name"))
    header = records[0]
    run = (
        f"benchmarks/results/{name}.json, {header['started'][:10]}, commit {header['commit'][:10]}, "
        f"torch {versions['torch']}, triton {versions['triton']}"
    )
    kept = [row for row in of_kind(records, "tuned") if row["kept"]]
    return merge(table, tree(kept, card, run))


def read_tiles(file: Path) -> Rows:
    """Return the table of best tiles, empty where there is none yet.

    Raises:
        DamagedRecords: the file is no such table.
    """
    try:
        table = json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise DamagedRecords(f"{file} is no table of tiles: {error}") from error
    if not isinstance(table, dict):
        raise DamagedRecords(f"{file} is no table of tiles: it holds no cards")
    return table


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of results from gpu_session.py")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for tables and chart")
    parser.add_argument("--tiles", type=Path, default=TILES, help="table of best tiles to update")
    parser.add_argument("--partial", action="store_true", help="accept a run that was cut off")
    parser.add_argument("--rehearsal", action="store_true", help="accept a rehearsal; needs --results and --tiles")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Write all files and return the exit code; 2 if the folder or an option cannot be used."""
    options = arguments(argv)
    try:
        if options.rehearsal and (options.results.resolve() == RESULTS or options.tiles.resolve() == TILES):
            raise DamagedRecords("--rehearsal writes only elsewhere, name folders with --results and --tiles")
        records = load(options.folder, options.partial, options.rehearsal)
        name = slug(card_of(records))
        tiles = merged_tiles(read_tiles(options.tiles), records, name)
        rows = chart_rows(records)
        text = markdown(records, f"{name}.png" if rows else None)
        options.results.mkdir(parents=True, exist_ok=True)
    except (DamagedRecords, OSError) as error:
        print(f"gpu_results: {error}", file=sys.stderr)
        return 2
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, StopIteration) as error:
        reason = f"a record lacks what it should hold ({type(error).__name__}: {error})"
        print(f"gpu_results: {options.folder} is damaged, {reason}", file=sys.stderr)
        return 2
    content = {"conditions": conditions(records), "run": records[0], "gaps": gaps(records)}
    content |= {kind: of_kind(records, kind)[-1] for kind in ("card", "ceilings") if of_kind(records, kind)}
    content |= {key: of_kind(records, kind) for key, kind in PARTS.items()}
    write_atomic(options.results / f"{name}.json", json.dumps(content, indent=1) + "\n")
    write_atomic(options.results / f"{name}.md", text)
    if rows:
        draw(rows, conditions(records), options.results / f"{name}.png")
    write_atomic(options.tiles, json.dumps(tiles, indent=1) + "\n")
    print("\n".join([*times_table(records), "", *steps_table(records)]))
    for gap in gaps(records)[:20]:
        print(f"missing: {gap}")
    print(
        f"wrote {name}.json, {name}.md{' and ' + name + '.png' if rows else ''} into {options.results}, {options.tiles}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
