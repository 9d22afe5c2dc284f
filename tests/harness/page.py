"""A page of HTML, parsed as a browser would."""

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """Elements, attributes and text of a page; every element must be closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("img", "meta"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self._open[-1:] != ["style"] else ""

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def pictures(self) -> list[Image.Image]:
        sources = [attributes["src"] for attributes in self.named("img")]
        found = [re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source) for source in sources]
        assert all(found)
        parts = [match.groups() for match in found if match]
        return [Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=[kind]) for kind, data in parts]

    def check_closed(self, source: str) -> None:
        """Check that nothing is loaded from outside: no address, no script, and a policy that forbids both."""
        assert {"link", "script", "iframe", "object", "base"}.isdisjoint(name for name, _ in self.elements)
        assert not any({"srcset", "onload"} & set(attributes) for _, attributes in self.elements)
        assert all(attributes["href"].startswith("#") for _, attributes in self.elements if "href" in attributes)
        without_pictures = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
        assert "//" not in without_pictures
        assert not re.search(r"url\(|@import", without_pictures)
        policy = next(m["content"] for m in self.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
        assert policy.startswith("default-src 'none'")
