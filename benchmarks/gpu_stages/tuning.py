"""Stage 2: find the best tiles of every kernel.

One process per core compiles candidates, without launching them. One process checks and times compiled candidates; it
is replaced if a candidate kills it. At the end, the winners of a dtype run together: they are checked again and timed
alternately with the pinned tiles. Winners that save no time are dropped.
"""

import json
import os
import select
import time
from collections import deque
from typing import Any, NamedTuple

from gpu_stages import records
from gpu_stages.card import cores
from gpu_stages.context import Context
from gpu_stages.search import Search, Tile, merge, tree
from gpu_stages.worker import Jobs, Reply, Worker, pool

COMPILE_SECONDS, MEASURE_SECONDS = 25.0, 8.0
"""Time limits of one candidate, for compiling and for measuring."""
CONFIRM_SHARE, CONFIRM_SECONDS = 0.2, 25.0
"""Share of the stage's time for the comparison at the end, and its limit in seconds."""
FILE = "tiles.json"


class Candidate(NamedTuple):
    search: Search
    tile: Tile


def run(context: Context) -> None:
    sizes = context.sizes
    maps = sizes.maps[0]
    end = context.deadline - min(CONFIRM_SECONDS, CONFIRM_SHARE * context.left())
    with Worker(context) as measurer, pool(context, cores() - 2) as compilers:
        starting = Jobs(compilers, [("kernels.ready", {})] * len(compilers), COMPILE_SECONDS)
        starting.begin()
        card = card_name(context, measurer)
        searches = begin(context, measurer, maps)[: sizes.most_searches]
        starting.finish(end)
        Tuning(context, searches, measurer, compilers, maps).run_until(end)
        for worker in compilers:
            worker.close()
        winners = confirm(context, searches, measurer, maps)
    publish(context, searches, winners, card)
    if not any(search.measured for search in searches):
        raise RuntimeError("no candidate was measured")


def card_name(context: Context, worker: Worker) -> str:
    """Return the name of the card; ask for it now if stage 0 failed to."""
    rows = records.read(context.out / records.FILE)
    known = next((row["name"] for row in records.of_kind(rows, "card") if row.get("name")), None)
    if known is not None:
        return str(known)
    reply = worker.ask("card.machine", MEASURE_SECONDS)
    if not reply.ok:
        raise RuntimeError(f"the card has no name, its tiles could not be kept: {reply.error}")
    context.record("card", **reply.value)
    return str(reply.value["name"])


def begin(context: Context, measurer: Worker, maps: int) -> list[Search]:
    """Return a search per kernel and dtype, with the time of the pinned tiles. Skip kernels that fail."""
    searches: list[Search] = []
    for dtype in context.sizes.dtypes:
        for name in context.sizes.tuned:
            if f"{name}:{dtype}" in context.failed:
                context.record("tuning_base", operator=name, dtype=dtype, problem="it failed in smoke")
                continue
            case = {"name": name, "maps": maps, "dtype": dtype}
            reply = measurer.ask("kernels.listed", MEASURE_SECONDS, **case)
            if not reply.ok:
                context.record("tuning_base", operator=name, dtype=dtype, problem=reply.error)
                continue
            rows = [row for row in reply.value if row["tile"]]
            for phase in ("forward", "backward"):
                values = measured(measurer, case, phase, None)
                context.record("tuning_base", operator=name, dtype=dtype, phase=phase, **values)
                if values["problem"] is None:
                    searches += [
                        search_of(context, name, dtype, row, values["seconds"]) for row in rows if row["pass"] == phase
                    ]
    return searches


def search_of(context: Context, name: str, dtype: str, row: dict[str, Any], seconds: float) -> Search:
    most = context.sizes.most_candidates
    search = Search(name, dtype, row["pass"], row["kernel"], row["tile"], row["classes"], most)
    search.based(seconds)
    return search


def measured(measurer: Worker, case: dict[str, Any], phase: str, choice: dict[str, Tile] | None) -> dict[str, Any]:
    """Check and time a pass with these tiles. Without `seconds`, `problem` gives the reason."""
    reply = measurer.ask("problems.measure", 2 * MEASURE_SECONDS, **case, phase=phase, tiles=choice)
    return reply.value if reply.ok else {"problem": reply.error}


class Tuning:
    """The tuning loop: compilers compile candidates, the measurer measures compiled ones."""

    def __init__(
        self, context: Context, searches: list[Search], measurer: Worker, pool: list[Worker], maps: int
    ) -> None:
        self.context, self.searches, self.measurer, self.pool, self.maps = context, searches, measurer, pool, maps
        self.turn = 0
        self.work: dict[Worker, Candidate] = {}
        self.ready: deque[Candidate] = deque()

    def run_until(self, end: float) -> None:
        while time.monotonic() < end:
            self.feed()
            if not self.work:
                break
            busy = list(self.work)
            select.select(busy, [], [], 0.2)
            for worker in busy:
                if (reply := worker.receive()) is not None:
                    self.take(worker, self.work.pop(worker), reply)
        while self.measurer in self.work:  # finishing this task costs less than a new process
            select.select([self.measurer], [], [], 0.2)
            if (reply := self.measurer.receive()) is not None:
                self.take(self.measurer, self.work.pop(self.measurer), reply)

    def feed(self) -> None:
        """Give every idle worker a task. Compile only as many candidates as can be measured soon."""
        for worker in self.pool:
            if worker in self.work or len(self.ready) > 2 * len(self.pool):
                continue
            candidate = self.next()
            if candidate is None:
                break
            search, tile = candidate
            worker.send(
                "kernels.compile_ahead", COMPILE_SECONDS,
                name=search.operator, maps=self.maps, dtype=search.dtype, kernel=search.kernel, tile=tile,
            )  # fmt: skip
            self.work[worker] = candidate
        if self.ready and self.measurer not in self.work:
            search, tile = candidate = self.ready.popleft()
            self.measurer.send(
                "problems.measure", MEASURE_SECONDS,
                name=search.operator, maps=self.maps, dtype=search.dtype, phase=search.phase,
                tiles={search.kernel: tile},
            )  # fmt: skip
            self.work[self.measurer] = candidate

    def next(self) -> Candidate | None:
        """Return the next candidate, taking turns between searches."""
        for _ in self.searches:
            search = self.searches[self.turn % len(self.searches)]
            self.turn += 1
            if (tile := search.take()) is not None:
                return Candidate(search, tile)
        return None

    def take(self, worker: Worker, candidate: Candidate, reply: Reply) -> None:
        search, tile = candidate
        values = reply.value if reply.ok else {"problem": reply.error}
        if worker is not self.measurer and reply.ok:
            self.ready.append(candidate)
            return
        best = bool(values.get("seconds")) and search.found(tile, values["seconds"])
        self.context.record(
            "candidate", kernel=search.kernel, dtype=search.dtype, tile=tile, best=best,
            done="measured" if worker is self.measurer else "compiled", state=reply.state,
            **{key: values.get(key) for key in ("problem", "seconds", "check_s")},
        )  # fmt: skip


def confirm(context: Context, searches: list[Search], measurer: Worker, maps: int) -> list[Search]:
    """Return the winners that together save time, compared alternately with the pinned tiles, pass by pass."""
    winners: list[Search] = []
    groups: dict[tuple[str, str, str], list[Search]] = {}
    for search in searches:
        if search.best != search.base:
            groups.setdefault((search.operator, search.dtype, search.phase), []).append(search)
    for (name, dtype, phase), found in groups.items():
        tiles = {search.kernel: search.best for search in found}
        case = {"name": name, "maps": maps, "dtype": dtype}
        pinned: list[float] = []
        tuned: list[float] = []
        problem = None
        for times, choice in context.sizes.turns * ((pinned, None), (tuned, tiles)):
            values = measured(measurer, case, phase, choice)
            if (problem := values["problem"]) is not None:
                break
            times.append(values["seconds"])
        kept = not problem and min(tuned) < min(pinned)
        context.record(
            "confirmed", operator=name, dtype=dtype, phase=phase, tiles=tiles, kept=kept, problem=problem,
            pinned_s=min(pinned, default=None), tuned_s=min(tuned, default=None),
        )  # fmt: skip
        winners += found if kept else []
    return winners


def publish(context: Context, searches: list[Search], winners: list[Search], card: str) -> None:
    """Record the best tiles of each kernel, use the winners in later stages, and write them to a file."""
    kept = []
    for search in searches:
        row = {
            "operator": search.operator, "dtype": search.dtype, "phase": search.phase, "kernel": search.kernel,
            "classes": search.classes, "base": search.base, "base_s": search.base_seconds, "best": search.best,
            "best_s": search.seconds, "measured": search.measured, "kept": search in winners,
        }  # fmt: skip
        context.record("tuned", **row)
        kept += [row] if search in winners else []
    header = records.read(context.out / records.FILE)[0]
    found = tree(kept, card, f"{header['started'][:10]}, commit {header['commit'][:10]}")
    table = merge(json.loads(context.table().read_text()), found)
    for file, content in ((context.table(), table), (context.out / FILE, found)):
        temporary = file.with_name(f"{file.name}.tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(temporary, file)
