"""What the page says, as HTML."""

import re

import numpy as np

from mol_fast.nn.weights import WeightsHeader
from mol_fast.prediction.aligned import describe
from mol_fast.prediction.analysis import Analysis
from mol_fast.prediction.result import Prediction
from mol_fast.report.chart import span
from mol_fast.report.html import Html, element, section, share_bar, table
from mol_fast.report.labels import SYNTHETIC
from mol_fast.report.moments import HEAT_WORDS, MEASURED, NO_PROOF, SYNTHETIC_WORDS, heat_on_apex, timeline, trained_on
from mol_fast.report.style import CHART, COLORS
from mol_fast.spotting import Moment, ShownMoment

TITLE = "When and where a face moves"
LIMIT = 2 * 1024**3
"""Bytes of the largest video that is taken."""

_OPTIONS = re.compile(r"(?: \(|[,;:] )(?:[^,;:()]* )?--[a-z][^,;:()]*\)?")  # a part of a sentence with an option

STYLE = f"""{COLORS}{CHART}
.gradio-container {{ width: 100%; max-width: 1240px !important; margin: 0 auto; }}
.gradio-container .html-container {{ padding: 0 !important; }}
#video video, #drawn video {{ width: 100%; max-height: 340px; }}
#video .top-panel button:not(:last-child), #files td:last-child {{ display: none; }}
.mol {{ color: var(--ink); font-size: 16px; line-height: 1.5; overflow-wrap: break-word; }}
.mol h1 {{ margin: 8px 0 4px; font-size: 1.7rem; font-weight: 600; }}
.mol h2 {{ margin: 20px 0 8px; font-size: 1.2rem; font-weight: 600; }}
.mol p {{ margin: 0 0 10px; }}
.mol .note {{ color: var(--soft); font-size: .9rem; }}
.mol .notice {{ margin: 12px 0 0; padding: 12px 16px; background: var(--notice); }}
.mol .notice {{ border: 1px solid var(--notice-line); border-radius: 8px; }}
.mol ul {{ margin: 6px 0 0; padding-left: 20px; list-style: disc; }}
.mol table {{ width: 100%; margin-bottom: 10px; border-collapse: collapse; font-size: .94rem; }}
.mol th, .mol td {{ padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); }}
.mol th, .mol td {{ text-align: left; vertical-align: top; }}
.mol thead th {{ color: var(--soft); font-size: .86rem; font-weight: 600; }}
.mol tbody th {{ font-weight: 400; }}
.mol td:nth-child(2) {{ white-space: nowrap; }}
.mol td img {{ display: block; width: 112px; margin: 4px 0; }}
.mol a {{ color: var(--blue); text-decoration: underline; }}
@media (max-width: 480px) {{
  .gradio-container .main {{ padding: 8px 12px !important; }}
  .mol {{ font-size: 15px; }}
  .mol .share {{ width: 110px; }}
  .mol td img {{ width: 64px; }}
  .mol .chart {{ column-gap: 6px; }}
  .mol .chart ol, .mol .along {{ font-size: .7rem; }}
}}
"""


def head(weights: WeightsHeader) -> Html:
    """Return the top of the page: its title, and what must be known before anything is read off it."""
    synthetic = [] if SYNTHETIC.isdisjoint(weights.sources) else [SYNTHETIC_WORDS]
    told = [" ".join(trained_on(weights)), *synthetic, f"{NO_PROOF} Nothing here is a diagnosis.", MEASURED]
    return _part(
        element("style", Html(STYLE)),
        element("h1", TITLE),
        element(
            "p",
            "Drop a video of a face, or record one. This page tells at which moments the face moves, in which regions, "
            "and what expression it might be.",
        ),
        element(
            "div",
            element("strong", "Read this first"),
            element("ul", *(element("li", text) for text in told)),
            class_="notice",
            role="note",
        ),
    )


def privacy() -> Html:
    """Return what happens to a video."""
    text = (
        f"A video may have up to {LIMIT // 1024**3} GB. It stays on this machine, and is deleted with all results when "
        "you close this page. One video is analysed at a time; others wait for their turn."
    )
    return _part(element("p", text, class_="note"))


def without_options(sentence: str) -> str:
    """Leave out the parts of a sentence that advise options of the command line, which the page does not have."""
    return _OPTIONS.sub("", sentence)


def results(done: Analysis) -> Html:
    """Return what was found in a video."""
    result = done.result
    found = _clip(result) if result.moments is None or done.motion is None else _moments(done)
    return _part(*found, *_notes(done))


def _moments(done: Analysis) -> list[Html]:
    shown = done.shown
    assert done.motion is not None
    chart = timeline(shown, done.motion, set(range(len(shown))))
    if not shown:
        return [chart]
    rows = (
        (element("span", number, id=f"moment-{number}"), _when(item.moment), _class(item), _motion(item.moment))
        for number, item in enumerate(shown, start=1)
    )
    heat = any(item.heat is not None for item in shown)
    text = "Per cent are of the distance of the eyes, from onset to apex."
    note = element("p", f"{text} Action units are guesses. {HEAT_WORDS}" if heat else text, class_="note")
    return [chart, section("Moments", table(("", "when", "class", "what moves"), rows), note)]


def _when(moment: Moment) -> Html:
    seconds = moment.offset_seconds - moment.onset_seconds
    return element("span", span(moment), element("br"), f"{moment.kind}, {seconds:.2f} s")


def _class(item: ShownMoment) -> Html:
    heat = heat_on_apex(item)
    return element("span", item.verdict, *([] if heat is None else [heat]))


def _motion(moment: Moment) -> Html:
    measured = ", ".join(f"{region} ({np.hypot(region.x, region.y):.1f} %)" for region in moment.regions)
    words = [] if moment.sentence is None else [f"{moment.sentence}", element("br")]
    return element("span", *words, measured)


def _clip(result: Prediction) -> list[Html]:
    assert result.probabilities is not None
    values = zip(result.classes, result.probabilities.tolist(), strict=True)
    best = f"{result.verdict(str(result.label), float(result.probabilities.max()))}"
    text = f"The video is as short as one expression, so it is not searched for moments. Class: {best}."
    rows = ((name, share_bar(value), f"{value:.2f}") for name, value in values)
    return [section("The clip", element("p", text), table((), rows))]


def _notes(done: Analysis) -> list[Html]:
    """Return what should be known about a result."""
    result = done.result
    people = [f"{result.people} people are seen, the largest is followed"] if (result.people or 0) > 1 else []
    skipped = [f"skipped {describe(result.skipped)}"] if result.skipped else []
    remarks = dict.fromkeys(item.remark for item in result.windows if item.remark)
    missing = result.without()
    notes = [*done.notes, *people, *skipped, *remarks, *([missing] if missing else [])]
    items = (element("li", f"{note[0].upper()}{note[1:]}.") for note in map(without_options, notes))
    return [element("div", element("ul", *items), class_="note")] if notes else []


def _part(*content: Html) -> Html:
    return element("div", *content, class_="mol")
