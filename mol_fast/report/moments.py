"""The page of a prediction with moments: report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from mol_fast.explain import METHOD
from mol_fast.nn.weights import WeightsHeader
from mol_fast.report.chart import MOST_MARKED, full_height, motion_chart, span
from mol_fast.report.html import Html, captioned, element, notice, picture, section, share_bar, table, write_page
from mol_fast.report.labels import SYNTHETIC, largest_shares, sources_in_words
from mol_fast.spotting import Moment, RegionMotion, ShownMoment, View
from mol_fast.spotting.region_motion import SPAN
from mol_fast.vision.facs import PRESENT, UNITS, PredictedUnit
from mol_fast.vision.flow_color import color_wheel_legend, flow_to_color
from mol_fast.vision.heat import SCALE, heat_legend, lay_heat
from mol_fast.vision.pictures import encoded_png

_LEAST_FLOW = 0.3  # pixels; shorter flow never gets full colour
_QUALITY = 90  # of JPEG


def write_moments_report(
    path: Path,
    *,
    name: str,
    date: str,
    shown: Sequence[ShownMoment],
    motion: RegionMotion,
    weights: WeightsHeader,
    about: Mapping[str, object],
    notes: Sequence[str] = (),
) -> None:
    """Write the report of a video, atomically.

    Its size is bounded: about 60 kB, and 70 kB for each moment with a view, 45 kB more if it is explained.

    Args:
        path: HTML file to write.
        name: name of the video.
        date: date of the page.
        shown: all moments, in order of time.
        motion: motion of all regions over time.
        weights: what the weights say about their training.
        about: shown as a table.
        notes: what should be known, one sentence each.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    count = len(shown)
    content = [
        *([] if SYNTHETIC.isdisjoint(weights.sources) else [notice("Synthetic training data.", SYNTHETIC_WORDS)]),
        *([notice("Note.", "; ".join(notes))] if notes else []),
        timeline(shown, motion, {place for place, item in enumerate(shown) if item.view is not None}),
        *([_moments(shown)] if count else []),
        section("What this means", element("ul", *(element("li", text) for text in _meaning(weights, shown)))),
        section("About", table((), about.items(), class_="settings")),
    ]
    write_page(path, name, f"{in_words(count, motion)} · {date}", content)


def in_words(count: int, motion: RegionMotion) -> str:
    """Say how many moments there are, and in how many seconds."""
    return f"{moments_in_words(count)} in {motion.end - motion.start:.0f} s"


def moments_in_words(count: int) -> str:
    """Say how many moments there are; none are no movement that looks like an expression."""
    if not count:
        return "no movement of the face that looks like an expression"
    return "1 moment" if count == 1 else f"{count} moments"


def trained_on(weights: WeightsHeader) -> list[str]:
    """Say in plain words what weights were trained on."""
    if not weights.learned_from():
        return ["The weights do not tell what they were trained on."]
    facts = [f"{len(weights.train_subjects)} subjects"] if weights.train_subjects else []
    facts += [f"{weights.steps} steps"] if weights.steps is not None else []
    told = f" ({', '.join(facts)})" if facts else ""
    classes = f"{', '.join(weights.classes[:-1])} and {weights.classes[-1]}"
    text = f"The weights were trained on {sources_in_words(weights.learned_from())}{told}, to tell {classes} apart."
    other = "Faces, cameras and light here are others than those of the training; how much worse that is, is not known."
    return [text, other]


def _meaning(weights: WeightsHeader, shown: Sequence[ShownMoment]) -> list[str]:
    if weights.temperature is None:
        calibrated = "The probabilities are not calibrated: read them as an order of the classes, not as chances."
    else:
        calibrated = (
            f"The probabilities have the temperature {weights.temperature:.2f}, fitted on what the weights of other "
            "folds of their run say about annotated clips of subjects that those were not trained on. Of such clips "
            "with 0.70, about 70 of 100 are right. For a moment that is no expression, no class is right."
        )
    explained = any(item.heat is not None or item.moment.sentence is not None for item in shown)
    predicted = [PREDICTED_UNITS] if any(item.moment.units is not None for item in shown) else []
    return [*trained_on(weights), calibrated, *_MEANING, *(_EXPLAINED if explained else ()), *predicted]


SYNTHETIC_WORDS = (
    "The weights know synthetic motions of generated faces. Their classes show that the program works; they do not "
    "show what a person feels."
)
NO_PROOF = (
    "A movement is no proof of a feeling. Every moment gets one of the classes, since there is no class for anything "
    "else."
)
MEASURED = (
    "The spotter was measured on synthetic videos only. Published methods find the moments of real long videos with an "
    "F1 of a few hundredths: expect moments that are missing, and moments that are none."
)
_MEANING = (
    "A moment is a movement of the face that goes somewhere and comes back within 4 seconds. Up to half a second it is "
    "called micro, else macro. Blinks, gaze, turns of the head and light should not count, and most speech does "
    "not: a face that speaks all the time had about 4 false moments a minute.",
    NO_PROOF,
    MEASURED,
)
HEAT_WORDS = f"Heat on the apex shows what moved the model's score of the class, not what the person felt: {SCALE}."
_EXPLAINED = (
    f"The heat is the attribution of the most probable class ({METHOD}): where the frames of the moment raised the "
    "model's score of that class, to a sixteenth of the width that the model sees. It shows what moved the score, not "
    "what the person felt, and not that the class is right.",
    "Action units are guesses: those of a simplified table that together explain the measured motion of the regions. "
    "They do not come from the class, and the class does not come from them.",
)
PREDICTED_UNITS = (
    f"Action units that the weights predict have a probability of at least {PRESENT}, which is not calibrated. The "
    f"weights know {', '.join(map(str, UNITS[:-1]))} and {UNITS[-1]}; what else moves, they do not tell."
)


def timeline(shown: Sequence[ShownMoment], motion: RegionMotion, linked: set[int]) -> Html:
    """Return the section that shows when the face moved: a sentence, the chart, and its legend.

    Args:
        shown: all moments, in order of time.
        motion: motion of all regions over time.
        linked: places in `shown` that have an element #moment-NUMBER on the page.
    """
    summary = in_words(len(shown), motion)
    legend = element(
        "p",
        f"Each row shows how far a region of the face moves within {SPAN} seconds, without the motion of the head. "
        f"The full height of a row is {full_height(motion):.1f} % of the distance of the eyes; lids may move more. "
        "Left and right are those of the picture. ",
        *(element("span", element("span", class_=f"swatch {kind}"), f" {text} ", class_="key") for kind, text in _KEYS),
        class_="note",
    )
    more = len(shown) - MOST_MARKED
    left_out = [element("p", f"The {MOST_MARKED} strongest are marked, {more} others are not.")] if more > 0 else []
    chart = motion_chart(motion, [item.moment for item in shown], linked)
    return section("When the face moved", element("p", f"{summary[0].upper()}{summary[1:]}."), *left_out, chart, legend)


_KEYS = (("micro", "micro-expression"), ("macro", "macro-expression"), ("unseen", "face not seen"))


def _moments(shown: Sequence[ShownMoment]) -> Html:
    with_views = [(number, item, item.view) for number, item in enumerate(shown, start=1) if item.view is not None]
    legend = element(
        "div",
        picture(encoded_png(color_wheel_legend(96)), alt="Colour of each direction of flow"),
        element(
            "p",
            "Flow goes from onset to apex, without the motion of the head. Its colour shows the direction, as on the "
            "wheel; white is still, full colour is the length that stands below. Per cent are of the distance of the "
            "eyes.",
            class_="note",
        ),
        class_="wheel moments-legend",
    )
    heat = [_heat_legend()] if any(item.heat is not None for item in shown) else []
    more = len(shown) - len(with_views)
    text = f"The {len(with_views)} strongest moments are shown; {more} weaker ones are in moments.csv."
    left_out = [element("p", text)] if more else []
    return section("Moments", *left_out, legend, *heat, *(_card(*item) for item in with_views))


def _heat_legend() -> Html:
    return element(
        "div",
        picture(encoded_png(heat_legend(96)), alt="Colours of heat, most at the top"),
        element("p", HEAT_WORDS, class_="note"),
        class_="moments-legend",
    )


def _card(number: int, item: ShownMoment, view: View) -> Html:
    moment = item.moment
    seconds = moment.offset_seconds - moment.onset_seconds
    heading = element("h3", f"Moment {number}: {span(moment)}, {moment.kind} ({seconds:.2f} s)", id=f"moment-{number}")
    full = max(float(np.quantile(np.hypot(*view.flow), 0.99)), _LEAST_FLOW)
    pictures = [
        _photograph(view.onset, f"onset: frame {moment.onset}, {moment.onset_seconds:.2f} s"),
        _photograph(view.apex, f"apex: frame {moment.apex}, {moment.apex_seconds:.2f} s"),
        _photograph(view.offset, f"offset: frame {moment.offset}, {moment.offset_seconds:.2f} s"),
        captioned(
            picture(encoded_png(flow_to_color(view.flow, full)), alt="flow"), f"flow, full colour is {full:.1f} px"
        ),
    ]
    if (heat := heat_on_apex(item)) is not None:
        pictures.append(captioned(heat, f"what moved the score of {moment.label}"))
    return element(
        "article",
        heading,
        element("div", *pictures, class_="panels moment" if item.heat is None else "panels moment explained"),
        element("p", f"What moves: {_moving(moment)}."),
        *_explanation(item),
        *_classes(item),
    )


def heat_on_apex(item: ShownMoment) -> Html | None:
    """Return the apex of a moment with what moved the score of its class laid over it; None if that is not known."""
    if item.view is None or item.heat is None:
        return None
    return picture(encoded_png(lay_heat(item.view.apex, item.heat)), alt="heat on the apex")


def _explanation(item: ShownMoment) -> list[Html]:
    """Return in words what the motion might be, and what moved the score of the class."""
    words = [f"In words: {item.moment.sentence}."] if item.moment.sentence else []
    if item.heat is not None and item.shares:
        doubt = " The class is uncertain, so this may explain a wrong answer." if item.uncertain else ""
        words.append(f"What moved the score of {item.moment.label}: {largest_shares(item.shares)}.{doubt}")
    return [element("p", text) for text in words]


def _moving(moment: Moment) -> str:
    return ", ".join(f"{region} ({np.hypot(region.x, region.y):.1f} %)" for region in moment.regions)


def _classes(item: ShownMoment) -> list[Html]:
    if item.probabilities is None:
        return [element("p", "No class: the face cannot be seen well in its frames.")]
    rows = [(name, share_bar(value), f"{value:.2f}") for name, value in item.probabilities.items()]
    return [element("p", f"Class: {item.verdict}."), table((), rows), *_units(item.moment)]


def _units(moment: Moment) -> list[Html]:
    """Return the action units that the weights predict, in words."""
    if moment.units is None:
        return []
    return [element("p", f"Action units that the weights predict: {units_in_words(moment.units)}.")]


def units_in_words(units: Sequence[PredictedUnit]) -> str:
    """Name predicted action units with their probabilities."""
    return ", ".join(f"{unit.name} (AU{unit.number}) {unit.probability:.2f}" for unit in units) or "none"


def _photograph(pixels: npt.NDArray[np.uint8], caption: str) -> Html:
    _, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return captioned(picture(data.tobytes(), alt=caption, kind="jpeg"), caption)
