"""The page as one file: no network, no library, readable without its script; equal results give equal bytes.

The page forbids itself everything but its own style and script, which are named by their hashes; what a user has written is text.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.report import answer, choices, cost, failures, front, network, origin, progress, training, trials
from flows.report.facts import Facts
from flows.report.html import Markup, Section, element, join
from flows.report.words import TIMES, count

PARTS: Sequence[Callable[[Facts], Section]] = (
    answer.section,
    progress.section,
    front.section,
    network.section,
    choices.section,
    choices.neighbours_section,
    training.section,
    training.confusion_section,
    failures.section,
    cost.section,
    origin.section,
    trials.section,
)
_THEME = "Light or dark"


def sections(facts: Facts) -> list[Section]:
    """All parts of the report, the answer first."""
    return [part(facts) for part in PARTS]


def page(facts: Facts, parts: Sequence[Section]) -> str:
    """The whole file."""
    here = Path(__file__).parent
    style, script = (Markup((here / name).read_text()) for name in ("style.css", "script.js"))
    allowed = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; form-action 'none'; base-uri 'none'"
    )
    name = f"nasflow: {facts.dataset['source']['name']}"
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": allowed}),
        element("title", None, name),
        element("link", {"rel": "icon", "href": "data:,"}),
        element("style", None, style),
    )
    cards = join([section.html() for section in parts], "\n")
    tip = element("div", {"id": "tip", "role": "status", "hidden": True})
    body = element("body", None, _head(facts, parts), element("main", None, cards), tip, element("script", None, script))
    return f"<!doctype html>\n{element('html', {'lang': 'en'}, head, body)}\n"


def markdown(parts: Sequence[Section]) -> str:
    """The tables of the report for Prefect, under the titles of their parts."""
    texts = [f"### {section.title}\n\n" + "\n\n".join(table.markdown() for table in section.tables) for section in parts if section.tables]
    return "\n\n".join(["The whole report is `results/report.html`.", *texts]) + "\n"


def _head(facts: Facts, parts: Sequence[Section]) -> Markup:
    links = [element("li", None, element("a", {"href": f"#{section.identity}"}, section.title)) for section in parts]
    shape = f" {TIMES} ".join(str(size) for size in facts.dataset["input_shape"])
    classes = count(len(facts.dataset["classes"]), "class", "classes")
    about = f"{facts.dataset['source']['name']}, {shape}, {classes}; space {facts.best['space']['name']}, "
    about += (
        f"strategy {facts.search['strategy']['name']}, evaluator {facts.search['evaluator']['name']}, {count(len(facts.trials), 'trial')}"
    )
    button = element("button", {"type": "button", "id": "theme", "hidden": True}, _THEME)
    title = element("div", {"class": "title"}, element("h1", None, answer.headline(facts)), button)
    contents = element("nav", {"aria-label": "Contents"}, element("ul", None, *links))
    return element("header", None, title, element("p", None, about), contents)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
