"""Draw the chart of a run: a line per group, a point with its spread per backend and dtype."""

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from mol_fast.utils.files import write_atomic

COLOURS = {"reference": "#7f7f7f", "torch": "#1f77b4", "torch.compile": "#ff7f0e", "triton": "#2ca02c"}
MARKERS = {"float32": "o", "bfloat16": "D"}


def draw(rows: dict[str, dict[tuple[str, str], dict[str, Any]]], title: str, path: Path) -> None:
    """Draw median times on a logarithmic axis, with bars for the quartiles and the share of the limit.

    On a GPU, eager times have the bars, and a thin line connects them to kernel times. The limit is the roofline if it
    was measured (on a GPU), otherwise the matrix rate.
    """
    figure, axes = plt.subplots(figsize=(11, 1.5 + 0.42 * len(rows)), layout="constrained")
    seen = set()
    for line, row in enumerate(rows.values()):
        for place, ((backend, dtype), benchmark) in enumerate(row.items()):
            stats, info = benchmark["stats"], benchmark["extra_info"]
            label = f"{backend} {dtype}"
            y = line + 0.7 * ((place + 0.5) / len(row) - 0.5)
            low, high = stats["median"] - stats["q1"], stats["q3"] - stats["median"]
            kernel = info.get("kernel")
            if kernel is not None:
                axes.plot([1e3 * kernel, 1e3 * stats["median"]], [y, y], color=COLOURS[backend], linewidth=0.5)
                axes.plot(1e3 * kernel, y, color=COLOURS[backend], marker="|", markersize=7)
            axes.errorbar(
                1e3 * stats["median"],
                y,
                xerr=[[1e3 * max(low, 0)], [1e3 * max(high, 0)]],
                color=COLOURS[backend],
                marker=MARKERS[dtype],
                markersize=4,
                markerfacecolor=COLOURS[backend] if dtype == "float32" else "white",
                linestyle="none",
                label=None if label in seen else label,
            )
            seen.add(label)
            share = info.get("roofline_share", info["matrix_share"])
            axes.annotate(f"{share:.0%}", (1e3 * stats["q3"], y), (4, -2), textcoords="offset points", fontsize=6)
    on_gpu = any("kernel" in benchmark["extra_info"] for row in rows.values() for benchmark in row.values())
    what = (
        "eager: marker, kernel: bar; numbers: share of the roofline" if on_gpu else "numbers: share of the matrix rate"
    )
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"milliseconds, median and quartiles; {what}")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=8, wrap=True)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_atomic(path, content.getvalue())
    plt.close(figure)
