"""HTML elements of reports. Text is escaped unless it is `Html`."""

import base64
import html
import os
from collections.abc import Iterable, Sequence
from typing import Literal

from mol_fast.report.style import STYLE
from mol_fast.utils.files import write_atomic

_VOID = {"br", "img", "meta"}
# The page may show its own pictures and style, but load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """A string that is already HTML, so it is not escaped."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """Return one element. Children and attribute values are escaped unless they are `Html`.

    In attribute names, a trailing underscore is dropped (`class_`) and other underscores become hyphens.
    """
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{''.join(map(_escape, children))}</{name}>")


def section(title: str, *content: Html) -> Html:
    """Return a section with a heading."""
    return element("section", element("h2", title), *content)


def notice(title: str, text: str) -> Html:
    """Return a notice for the top of a report, which a reader cannot overlook."""
    return element("p", element("strong", f"{title} "), text, class_="notice", role="note")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], class_: str = "") -> Html:
    """Return a table. The first cell of each row is its heading. `head` may be empty."""
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    parts = [element("tbody", *body)]
    if head:
        columns = (element("th", name, scope="col") for name in head)
        parts.insert(0, element("thead", element("tr", *columns)))
    return element("table", *parts, class_=class_)


def share_bar(value: float) -> Html:
    """Return a bar that is filled to `value`, from 0 to 1."""
    return element("span", element("span", style=f"width: {100 * value:.1f}%"), class_="share")


def picture(data: bytes, alt: str, class_: str = "", kind: Literal["png", "jpeg"] = "png") -> Html:
    """Return a picture embedded in the page."""
    text = base64.b64encode(data).decode("ascii")
    return element("img", src=f"data:image/{kind};base64,{text}", alt=alt, class_=class_)


def captioned(content: Html, caption: object, class_: str = "") -> Html:
    """Return content with a caption below."""
    return element("figure", content, element("figcaption", caption), class_=class_)


def write_page(path: str | os.PathLike[str], title: str, subtitle: str, content: Sequence[Html]) -> None:
    """Write a page atomically, as one self-contained file.

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
    """Escape text; what is no text in a file's name, and could not be encoded, becomes "?"."""
    return value if isinstance(value, Html) else html.escape(str(value).encode(errors="replace").decode())
