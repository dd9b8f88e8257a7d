"""Reads a report as a person or a machine would: its elements, and the text of each of its parts."""

from html.parser import HTMLParser

from flows.report import page
from flows.report.facts import Facts


class Reader(HTMLParser):
    """Collects the elements of a page, and the text of each section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["id"])

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.texts[self._section] = self.texts.get(self._section, "") + data + " "

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of these kinds."""
        return [attributes for tag, attributes in self.elements if tag in tags]


def written(facts: Facts) -> str:
    return page.page(facts, page.sections(facts))


def told(facts: Facts) -> dict[str, str]:
    """The text of each section, every space once."""
    return {name: " ".join(text.split()) for name, text in Reader(written(facts)).texts.items()}
