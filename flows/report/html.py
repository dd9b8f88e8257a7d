"""Markup that cannot break out: whatever is not markup already is escaped."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from flows.markdown import cell

_TAG = re.compile(r"<[^>]*>")
_VOID = frozenset({"input", "meta", "link", "br", "hr", "circle", "line", "path", "rect", "polyline"})
_CLOSED = frozenset({"circle", "line", "path", "rect", "polyline"})
"""Empty elements of SVG, which close themselves."""


@final
class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


Content = Markup | str
Value = str | int | float | bool | None
Attributes = Mapping[str, Value]
"""Values by names; True writes the bare name, False and None write nothing."""


def element(name: str, attributes: Attributes | None = None, *content: Content) -> Markup:
    """An element; what is in it is escaped unless it is markup, and so are the values of its attributes."""
    written = "".join(_attribute(key, value) for key, value in (attributes or {}).items())
    if name in _VOID and not content:
        return Markup(f"<{name}{written}{'/' if name in _CLOSED else ''}>")
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(parts: Sequence[Content], between: str = "") -> Markup:
    """All parts as one markup."""
    return Markup(escaped(between).join(escaped(part) for part in parts))


def escaped(part: Content) -> Markup:
    """The part as markup."""
    return part if isinstance(part, Markup) else Markup(html.escape(part))


def paragraph(*content: Content) -> Markup:
    """A paragraph of text."""
    return element("p", None, *content)


def note(*content: Content) -> Markup:
    """A paragraph that says how to read what stands above it, or what it rests on."""
    return element("p", {"class": "note"}, *content)


def _attribute(name: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(plain(value) if isinstance(value, float) else str(value))}"'


def plain(value: float) -> str:
    """A coordinate: at most two decimals, none that are zero."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


@final
@dataclass(frozen=True, slots=True)
class Table:
    """A table that is shown on the page and in Prefect. Columns named in `numbers` are aligned to the right."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Content]]
    numbers: frozenset[str] = frozenset()

    def html(self, identity: str | None = None) -> Markup:
        """The table for the page, in a frame that scrolls where the screen is too narrow."""
        classes = ["number" if name in self.numbers else None for name in self.header]
        head = [element("th", {"scope": "col", "class": kind}, name) for name, kind in zip(self.header, classes, strict=True)]
        body = [element("tr", None, *self._cells(row, classes)) for row in self.rows]
        parts = [element("caption", None, self.caption), element("thead", None, element("tr", None, *head)), element("tbody", None, *body)]
        return scrolling(self.caption, element("table", {"id": identity}, *parts))

    def _cells(self, row: Sequence[Content], classes: Sequence[str | None]) -> list[Markup]:
        first, *rest = zip(row, classes, strict=True)
        cells = [element("td", {"class": kind}, cell) for cell, kind in rest]
        return [element("th", {"scope": "row", "class": first[1]}, first[0]), *cells]

    def markdown(self) -> str:
        """The table for Prefect; of cells that are markup the text, and no column that holds pictures alone."""
        rows = [[_told(content) for content in row] for row in self.rows]
        drawn = {at for at in range(len(self.header)) if self.rows and all(isinstance(row[at], Markup) for row in self.rows)}
        told = [at for at in range(len(self.header)) if at not in drawn or any(row[at] for row in rows)]
        ruler = ["---:" if name in self.numbers else "---" for name in self.header]
        lines = [[line[at] for at in told] for line in ([_told(name) for name in self.header], ruler, *rows)]
        return "\n".join([f"**{self.caption}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def scrolling(label: str, content: Markup) -> Markup:
    """A frame that scrolls sideways, also by keyboard."""
    return element("div", {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": label}, content)


def _told(content: Content) -> str:
    return cell(html.unescape(_TAG.sub("", content)) if isinstance(content, Markup) else content)


@final
@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; `tables` are shown in Prefect too."""

    identity: str
    title: str
    body: Sequence[Content]
    tables: Sequence[Table] = ()
    wide: bool = True

    def html(self) -> Markup:
        """The part as an element of the page."""
        name = f"{self.identity}-title"
        head = element("h2", {"id": name}, self.title)
        kind = "card wide" if self.wide else "card"
        return element("section", {"id": self.identity, "class": kind, "aria-labelledby": name}, head, *self.body)
