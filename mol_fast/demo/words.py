"""What the page says, as HTML."""

import re
from pathlib import Path

import numpy as np

from mol_fast.nn.weights import WeightsHeader
from mol_fast.prediction.aligned import describe
from mol_fast.prediction.analysis import Analysis
from mol_fast.prediction.result import Prediction
from mol_fast.report.chart import span
from mol_fast.report.html import Html, element, section, share_bar, table
from mol_fast.report.labels import SYNTHETIC
from mol_fast.report.moments import (
    HEAT_WORDS,
    MEASURED,
    NO_PROOF,
    PREDICTED_UNITS,
    SYNTHETIC_WORDS,
    heat_on_apex,
    timeline,
    trained_on,
    units_in_words,
)
from mol_fast.report.style import CHART, COLORS
from mol_fast.spotting import Moment, ShownMoment
from mol_fast.vision.facs import PredictedUnit, predicted_units

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
.mol .alert {{ margin-top: 4px; padding: 10px 16px; background: var(--card); }}
.mol .alert {{ border: 2px solid var(--wrong); border-radius: 8px; }}
.mol .alert p {{ margin: 2px 0 0; }}
.mol ul {{ margin: 6px 0 0; padding-left: 20px; list-style: disc; }}
.mol table {{ width: 100%; margin-bottom: 10px; border-collapse: collapse; font-size: .94rem; }}
.mol th, .mol td {{ padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); }}
.mol th, .mol td {{ text-align: left; vertical-align: top; }}
.mol thead th {{ color: var(--soft); font-size: .86rem; font-weight: 600; }}
.mol tbody th {{ font-weight: 400; }}
.mol .when {{ white-space: nowrap; }}
.mol td img {{ display: block; width: 112px; margin: 4px 0; }}
.mol a {{ color: var(--blue); text-decoration: underline; }}
@media (max-width: 480px) {{
  .gradio-container .main {{ padding: 8px 12px !important; }}
  .mol {{ font-size: 15px; }}
  .mol .share {{ width: 110px; }}
  .mol .moments tr {{ display: grid; grid-template-columns: 2rem 1fr 1fr; }}
  .mol .moments tr {{ border-bottom: 1px solid var(--line); }}
  .mol .moments th, .mol .moments td {{ min-width: 0; padding-bottom: 4px; border: 0; overflow-wrap: anywhere; }}
  .mol .moments tr > :last-child {{ grid-column: 1 / -1; }}
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


def of_page(sentence: str, video: Path) -> str:
    """Make a sentence of the command line one of the page: without options, and without the place of the video."""
    return _OPTIONS.sub("", sentence.replace(str(video), "the file"))


def sentence(text: str) -> str:
    """Write a text of the command line as a sentence: with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def message(title: str, text: str) -> Html:
    """Return a message that a reader cannot overlook."""
    return _part(element("div", element("strong", title), element("p", text), class_="alert", role="alert"))


def results(done: Analysis, video: Path) -> Html:
    """Return what was found in a video."""
    result = done.result
    found = _clip(result) if result.moments is None or done.motion is None else _moments(done)
    return _part(*found, *_notes(done, video))


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
    told = ["Per cent are of the distance of the eyes, from onset to apex."]
    told += ["Action units in the description are guesses."] if any(item.moment.sentence for item in shown) else []
    told += [HEAT_WORDS] if any(item.heat is not None for item in shown) else []
    told += [PREDICTED_UNITS] if any(item.moment.units is not None for item in shown) else []
    note = element("p", " ".join(told), class_="note")
    return [chart, section("Moments", table(("", "when", "class", "what moves"), rows, class_="moments"), note)]


def _when(moment: Moment) -> Html:
    seconds = moment.offset_seconds - moment.onset_seconds
    return element("span", span(moment), element("br"), f"{moment.kind}, {seconds:.2f} s", class_="when")


def _class(item: ShownMoment) -> Html:
    heat = heat_on_apex(item)
    return element("span", item.verdict, *([] if heat is None else [heat]))


def _motion(moment: Moment) -> Html:
    measured = ", ".join(f"{region} ({np.hypot(region.x, region.y):.1f} %)" for region in moment.regions)
    words = [] if moment.sentence is None else [f"{moment.sentence}", element("br")]
    units = [] if moment.units is None else [element("br"), f"predicted: {units_in_words(moment.units)}"]
    return element("span", *words, measured, *units)


def _clip(result: Prediction) -> list[Html]:
    assert result.probabilities is not None
    values = zip(result.classes, result.probabilities.tolist(), strict=True)
    best = f"{result.verdict(str(result.label), float(result.probabilities.max()))}"
    text = f"The video is as short as one expression, so it is not searched for moments. Class: {best}."
    rows = ((name, share_bar(value), f"{value:.2f}") for name, value in values)
    told = [] if result.units is None else _units(predicted_units(result.units))
    return [section("The clip", element("p", text), table((), rows), *told)]


def _units(units: tuple[PredictedUnit, ...]) -> list[Html]:
    text = f"Action units that the weights predict: {units_in_words(units)}."
    return [element("p", text), element("p", PREDICTED_UNITS, class_="note")]


def _notes(done: Analysis, video: Path) -> list[Html]:
    """Return what should be known about a result."""
    result = done.result
    people = [f"{result.people} people are seen, the largest is followed"] if (result.people or 0) > 1 else []
    skipped = [f"skipped {describe(result.skipped)}"] if result.skipped else []
    remarks = dict.fromkeys(item.remark for item in result.windows if item.remark)
    missing = result.without()
    notes = [*done.notes, *people, *skipped, *remarks, *([missing] if missing else [])]
    items = (element("li", sentence(of_page(note, video))) for note in notes)
    return [element("div", element("ul", *items), class_="note")] if notes else []


def _part(*content: Html) -> Html:
    return element("div", *content, class_="mol")
