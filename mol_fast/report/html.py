"""The few pieces of HTML that reports are put together from. Text is escaped unless it is `Html`."""

import base64
import html
import os
from collections.abc import Iterable, Sequence

from mol_fast.report.style import STYLE
from mol_fast.utils.files import write_atomic

_VOID = {"img", "meta"}
# The page may show its own pictures and style, and load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """A string that is HTML already and is not escaped again."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """One element. Children and attribute values are escaped unless they are `Html`.

    A trailing underscore of an attribute's name is dropped (``class_``), others become hyphens.
    """
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{''.join(map(_escape, children))}</{name}>")


def section(title: str, *content: Html) -> Html:
    """A part of the page with a heading."""
    return element("section", element("h2", title), *content)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], class_: str = "") -> Html:
    """A table; the first cell of each row is its heading. ``head`` may be empty."""
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    parts = [element("tbody", *body)]
    if head:
        columns = (element("th", name, scope="col") for name in head)
        parts.insert(0, element("thead", element("tr", *columns)))
    return element("table", *parts, class_=class_)


def share_bar(value: float) -> Html:
    """A bar of which the part `value`, from 0 to 1, is filled."""
    return element("span", element("span", style=f"width: {100 * value:.1f}%"), class_="share")


def picture(png: bytes, alt: str, class_: str = "") -> Html:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode("ascii")
    return element("img", src=f"data:image/png;base64,{data}", alt=alt, class_=class_)


def captioned(content: Html, caption: object, class_: str = "") -> Html:
    """Content with a caption under it."""
    return element("figure", content, element("figcaption", caption), class_=class_)


def write_page(path: str | os.PathLike[str], title: str, subtitle: str, content: Sequence[Html]) -> None:
    """Write a page as one file that needs no other, atomically.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=Html(_POLICY)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    header = element("header", element("h1", title), element("p", subtitle))
    body = element("body", element("main", header, *content))
    write_atomic(path, f"<!doctype html>\n{element('html', head, body, lang='en')}\n")


def _escape(value: object) -> str:
    return value if isinstance(value, Html) else html.escape(str(value))
