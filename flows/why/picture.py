"""A chain as a picture: the links from the file down to the commit, and beside them the trials that the architecture descends from.

Plain SVG, in the colours of a page that is light or dark, with no script and nothing to fetch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final
from xml.sax.saxutils import escape

from flows.why.chain import Ancestor, Chain, Link

_STYLE = """
  svg { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #ffffff; --card: #f6f8fa; background: var(--paper) }
  svg { --good: #1a7f37; --doubt: #9a6700; --bad: #cf222e }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6edf3; --soft: #9aa4b0; --line: #3d444d; --paper: #0d1117; --card: #161b22 }
    svg { --good: #3fb950; --doubt: #d29922; --bad: #f85149 }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink) } .soft { fill: var(--soft) } .small { font-size: 12px }
  .name { font-weight: 600 } .title { font-size: 16px; font-weight: 600 } .card { fill: var(--card); stroke: var(--line) }
  .holds { fill: var(--good) } .open { fill: var(--doubt) } .broken { fill: var(--bad) }
  .edge { stroke: var(--line); stroke-width: 2; fill: none }
"""
_MARGIN, _WIDTH, _GAP, _LINE = 24, 590, 18, 18
_TOP = 64
_NODE_WIDTH, _NODE_HEIGHT, _NODE_GAP = 250, 48, 34
_FACTS, _ROWS, _ACROSS = 3, 9, 3
_PER_LETTER, _PER_BOLD = 6.6, 8.0
"""Pixels that a letter of the body and of a heading takes at most, on average."""


@final
@dataclass(frozen=True)
class _Node:
    """An ancestor in its place."""

    ancestor: Ancestor
    left: int
    top: int


def draw(chain: Chain) -> str:
    """Return the SVG of a chain."""
    left, bottom = list[str](), _TOP
    for place, link in enumerate(chain.links):
        if place:
            left.append(_edge(_MARGIN + 17, bottom - _GAP, _MARGIN + 17, bottom))
        left += _card(link, bottom)
        bottom += _height(link) + _GAP
    nodes, after = _places(chain.ancestors)
    right = [*_family(nodes, after)]
    width = 2 * _MARGIN + _WIDTH + max((node.left + _NODE_WIDTH for node in nodes), default=0) - (_MARGIN + _WIDTH if nodes else 0)
    height = max(bottom, after + _LINE)
    head = f'<text class="title {chain.state}" x="{_MARGIN}" y="36">{_text(chain.sentence(), int(width / _PER_BOLD))}</text>'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">'
    return "\n".join([start, f"<style>{_STYLE}</style>", head, *left, *right, "</svg>", ""])


def _lines(link: Link) -> list[tuple[str, str]]:
    """What is written below the title: what is wrong goes before the facts."""
    wrong = [("broken", sentence) for sentence in link.broken] + [("open", sentence) for sentence in link.unchecked]
    facts = [("soft", f"{name}: {value}") for name, value in link.lines]
    return [*wrong[:_FACTS], *facts][:_FACTS]


def _height(link: Link) -> int:
    return 34 + _LINE * len(_lines(link))


def _card(link: Link, top: int) -> Iterator[str]:
    room = int((_WIDTH - 60) / _PER_LETTER)
    yield f'<rect class="card" x="{_MARGIN}" y="{top}" width="{_WIDTH}" height="{_height(link)}" rx="8"/>'
    yield f'<circle class="{link.state}" cx="{_MARGIN + 17}" cy="{top + 17}" r="6"/>'
    name = f'<tspan class="name">{escape(link.name)}</tspan>'
    yield f'<text x="{_MARGIN + 34}" y="{top + 22}">{name}  {_text(link.title, room - len(link.name) - 4)}</text>'
    for place, (kind, words) in enumerate(_lines(link)):
        yield f'<text class="small {kind}" x="{_MARGIN + 34}" y="{top + 42 + _LINE * place}">{_text(words, room)}</text>'


def _places(ancestors: Sequence[Ancestor]) -> tuple[list[_Node], int]:
    """Where each ancestor goes, a generation to a row, and where the rows end; those that find no room are left out."""
    known, rows = {one.trial: one for one in ancestors}, list[list[Ancestor]]()
    seen, level = set[int](), [one.trial for one in ancestors[:1]]
    while level and len(rows) < _ROWS:
        rows.append([known[number] for number in level if number in known][:_ACROSS])
        seen |= set(level)
        level = [source for source in dict.fromkeys(source for one in rows[-1] for source in one.sources) if source not in seen]
    start = 2 * _MARGIN + _WIDTH + _GAP
    nodes = [
        _Node(one, start + place * (_NODE_WIDTH + _GAP), _TOP + 30 + depth * (_NODE_HEIGHT + _NODE_GAP))
        for depth, row in enumerate(rows)
        for place, one in enumerate(row)
    ]
    return nodes, _TOP + 30 + len(rows) * (_NODE_HEIGHT + _NODE_GAP)


def _family(nodes: Sequence[_Node], after: int) -> Iterator[str]:
    if not nodes:
        return
    places: Mapping[int, _Node] = {node.ancestor.trial: node for node in nodes}
    yield f'<text class="name" x="{nodes[0].left}" y="{_TOP + 16}">Where the architecture comes from</text>'
    hidden = 0
    for node in nodes:
        for source in node.ancestor.sources:
            if source in places:
                other = places[source]
                yield _edge(node.left + _NODE_WIDTH // 2, node.top + _NODE_HEIGHT, other.left + _NODE_WIDTH // 2, other.top)
            else:
                hidden += 1
    for node in nodes:
        yield from _drawn(node)
    if hidden:
        yield f'<text class="small soft" x="{nodes[0].left}" y="{after - 10}">… and the trials before these</text>'


def _drawn(node: _Node) -> Iterator[str]:
    one, room = node.ancestor, int((_NODE_WIDTH - 20) / _PER_LETTER)
    changes = ", ".join(f"{name} {before} → {after}" for name, (before, after) in one.changed.items())
    yield f'<rect class="card" x="{node.left}" y="{node.top}" width="{_NODE_WIDTH}" height="{_NODE_HEIGHT}" rx="8"/>'
    name = f'<tspan class="name">trial {one.trial}</tspan>'
    yield f'<text x="{node.left + 10}" y="{node.top + 19}">{name}  {_text(one.score, room - 10)}</text>'
    yield f'<text class="small soft" x="{node.left + 10}" y="{node.top + 38}">{_text(changes or one.made, room)}</text>'


def _edge(x: int, y: int, to_x: int, to_y: int) -> str:
    middle = (y + to_y) // 2
    return f'<path class="edge" d="M{x} {y} C{x} {middle} {to_x} {middle} {to_x} {to_y}"/>'


def _text(words: str, room: int) -> str:
    """Words that fit into so many letters, as SVG takes them."""
    return escape(words if len(words) <= room else f"{words[: max(1, room - 1)]}…")
