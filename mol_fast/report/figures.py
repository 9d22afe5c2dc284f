"""Figures of reports, as PNG bytes that depend only on the input."""

import io
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter

from mol_fast.metrics import Reliability
from mol_fast.vision.heat import heat_of, lay_heat

TRUE_COLOR = "#2ee6ff"
PREDICTED_COLOR = "#ff7a1a"
_METADATA = {"Software": "mol-fast"}


def pixels_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a grey (H, W) or RGB (H, W, 3) picture, uint8, unchanged."""
    color = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    buffer = io.BytesIO()
    imsave(buffer, color, format="png", metadata=_METADATA)
    return buffer.getvalue()


def landmarks_png(
    frame: npt.NDArray[np.uint8], true: npt.NDArray[np.floating], predicted: npt.NDArray[np.floating]
) -> bytes:
    """Draw a frame (H, W) with true landmarks as rings and predicted landmarks as crosses, joined by lines.

    Args:
        frame: grey, uint8.
        true, predicted: (68, 2) as (x, y) in pixels of the frame.
    """
    height, width = frame.shape
    figure = Figure(figsize=(3, 3 * height / width), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[])
    axes.imshow(frame, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    axes.plot(*np.stack([true, predicted]).transpose(2, 0, 1), color=PREDICTED_COLOR, linewidth=1)
    axes.plot(*true.T, "o", color=TRUE_COLOR, markersize=5, fillstyle="none", markeredgewidth=1.2)
    axes.plot(*predicted.T, "+", color=PREDICTED_COLOR, markersize=6, markeredgewidth=1.4)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return _png(figure)


def lay_places(frame: npt.NDArray[np.uint8], places: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Return a frame (H, W) in colour, with the cells (h, w) that matter laid over it; the largest share is brightest.

    Args:
        frame: grey, uint8.
        places: share of each cell, at least 0.
    """
    rows, columns = (np.arange(size) * cells // size for size, cells in zip(frame.shape, places.shape, strict=True))
    return lay_heat(frame, heat_of(places)[rows[:, None], columns])


def curves_png(rows: pd.DataFrame) -> bytes:
    """Plot each column of `rows` over the column `step`: raw values in light, running mean in dark."""
    terms = [name for name in rows.columns if name != "step"]
    columns = min(len(terms), 2)
    lines = math.ceil(len(terms) / columns)
    figure = Figure(figsize=(10, 2.9 * lines), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12))
    for place, term in enumerate(terms, 1):
        axes = figure.add_subplot(lines, columns, place)
        known = rows[["step", term]].dropna()
        smooth = known[term].rolling(max(len(known) // 40, 1), min_periods=1).mean()
        axes.plot(known["step"], known[term], color="#a9c4e4", linewidth=1, marker="." if len(known) < 3 else "")
        axes.plot(known["step"], smooth, color="#1f5fa8", linewidth=1.6)
        if (known[term] > 0).all() and len(known):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(str(term), fontsize=11, parse_math=False)
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(which="both", labelsize=8)
        axes.grid(color="#e3e8ee", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def reliability_png(before: Reliability, after: Reliability | None) -> bytes:
    """Draw a reliability diagram: accuracy over confidence, the area of a point for the videos of its bin."""
    figure = Figure(figsize=(4.6, 4.2), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#9aa6b3", linewidth=1)
    pairs = [(before, "o", "#c94f00", "as the model gives it"), (after, "s", "#1f5fa8", "with temperature")]
    for shown, marker, color, label in pairs:
        if shown is None:
            continue
        known = [place for place, count in enumerate(shown.count) if count]
        x, y = (np.array(values, dtype=np.float64)[known] for values in (shown.confidence, shown.accuracy))
        sizes = [20 + 280 * shown.count[place] / sum(shown.count) for place in known]
        axes.plot(x, y, color=color, linewidth=1, alpha=0.6)
        axes.scatter(
            x, y, sizes, color=color, marker=marker, alpha=0.6, linewidths=0, label=f"{label}: {shown.error:.3f}"
        )
    axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="confidence", ylabel="accuracy")
    axes.grid(color="#e3e8ee", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="upper left",
        fontsize=8,
        markerscale=0.5,
        frameon=False,
        title="expected calibration error",
        title_fontsize=8,
    )
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata=_METADATA)
    return buffer.getvalue()
