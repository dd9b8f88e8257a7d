"""The winner as a graph of operations, drawn from the file that ships; what repeats is drawn once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from flows.report.blocks import Block, blocks, repeats, segments
from flows.report.facts import Facts
from flows.report.html import Markup, Section, Table, Value, element, note, plain, scrolling
from flows.report.layout import BOX_HEIGHT, BOX_WIDTH, LAYER, Layout, Place, layout
from flows.report.words import TIMES, count

_MARGIN = 40
"""At the sides, where the number of repetitions stands."""
_LETTERS = 31


@final
@dataclass(frozen=True, slots=True)
class Drawing:
    """The blocks to draw, each with the blocks it reads; and the repeated groups as (first block, last block, times)."""

    shown: Sequence[Block]
    groups: Sequence[tuple[int, int, int]]
    whole: int


def section(facts: Facts) -> Section:
    """The drawing, and the decisions it comes from as a table."""
    drawing = folded(blocks(facts.model))
    times = [times for _, _, times in drawing.groups]
    words = f"{count(drawing.whole, 'block')} of results/export/model.onnx, from its input to its last result"
    folds = f"; {count(sum(times), 'equal part')} drawn as {len(times)}" if times else ""
    rows = list(facts.shipped["decisions"].items())
    table = Table(f"Decisions of trial {facts.shipped['trial']}", ("choice", "option"), rows)
    rounded = " Of a quantized file the roundings are left out, of which a ReLU is a part." if facts.manifest["ships"] == "int8" else ""
    how = note(
        f"{words}{folds}.{rounded} A block is an operation with what follows it; a word with “first” comes before it. Batch norms "
        "behind convolutions are part of these in the file. Decisions that this network does not ask for are not listed."
    )
    figure = scrolling("The network, from its input above to its result below", svg(drawing))
    body = [element("div", {"class": "split"}, element("div", None, figure), element("div", None, table.html())), how]
    return Section("network", "The network that ships", body, [table])


def folded(found: Sequence[Block]) -> Drawing:
    """Leave out all but the first of parts that are equal and follow each other."""
    parts = list(segments(found))
    signatures = [tuple((found[place].lines, tuple(place - source for source in found[place].inputs)) for place in part) for part in parts]
    kept: list[int] = []
    groups, ends = [], {}
    for start, length, times in repeats(signatures):
        first = len(kept)
        kept += [place for part in parts[start : start + length] for place in part]
        # What comes next reads the last block of the last repetition, which stands for the one that is drawn.
        ends[parts[start + length * times - 1][-1]] = len(kept) - 1
        if times > 1:
            groups.append((first, len(kept) - 1, times))
    index = {place: number for number, place in enumerate(kept)} | ends
    shown = []
    for place in kept:
        block = found[place]
        inputs = [index[source] for source in block.inputs if source in index]
        shown.append(Block(block.title, block.kind, block.detail, list(block.joined), inputs))
    return Drawing(shown, groups, len(found))


def svg(drawing: Drawing) -> Markup:
    """The boxes and edges, in the size that their text needs."""
    placed = layout([block.inputs for block in drawing.shown])
    width, height = placed.width + 2 * _MARGIN, placed.height + 16
    parts = [_group(placed, group) for group in drawing.groups]
    parts += [_edge(edge) for edge in placed.edges]
    parts += [_box(place, block) for place, block in zip(placed.boxes, drawing.shown, strict=True)]
    moved = element("g", {"transform": f"translate({_MARGIN} 8)"}, *parts)
    described = ", then ".join(block.title for block in drawing.shown[:12]) + (" and so on" if len(drawing.shown) > 12 else "")
    frame: dict[str, Value] = {"viewBox": f"0 0 {plain(width)} {plain(height)}", "width": width, "height": height, "class": "network"}
    return element("svg", {**frame, "role": "img", "aria-label": f"Graph of operations: {described}"}, moved)


def _group(placed: Layout, group: tuple[int, int, int]) -> Markup:
    first, last, times = group
    mine = [place for place in placed.boxes if place.box is not None and first <= place.box <= last]
    bends = [bend for _, below, on_way in placed.edges if below in mine for bend in on_way]
    left = min(place.x - place.width / 2 for place in (*mine, *bends)) - 10
    right = max(place.x + place.width / 2 for place in (*mine, *bends)) + 10
    top, bottom = min(place.y for place in mine) - 8, max(place.y for place in mine) + BOX_HEIGHT + 8
    frame = element("rect", {"x": left, "y": top, "width": right - left, "height": bottom - top, "rx": 10, "class": "group"})
    return element("g", None, frame, element("text", {"x": right + 4, "y": (top + bottom) / 2 + 5, "class": "times"}, f"{TIMES} {times}"))


def _edge(edge: tuple[Place, Place, Sequence[Place]]) -> Markup:
    above, below, bends = edge
    x, y = above.x, above.y + BOX_HEIGHT
    path = f"M{plain(x)} {plain(y)}"
    for bend in bends:
        path += (
            f"C{plain(x)} {plain(y + 14)} {plain(bend.x)} {plain(bend.y - 14)} {plain(bend.x)} {plain(bend.y)}V{plain(bend.y + BOX_HEIGHT)}"
        )
        x, y = bend.x, bend.y + BOX_HEIGHT
    half = (LAYER - BOX_HEIGHT) / 2
    path += f"C{plain(x)} {plain(y + half)} {plain(below.x)} {plain(below.y - half)} {plain(below.x)} {plain(below.y)}"
    return element("path", {"d": path, "class": "edge"})


def _box(place: Place, block: Block) -> Markup:
    title, detail = block.lines
    size: dict[str, Value] = {"width": BOX_WIDTH, "height": BOX_HEIGHT, "rx": 7, "class": f"box {block.kind}"}
    frame = element("rect", {"x": place.x - BOX_WIDTH / 2, "y": place.y, **size})
    parts = [element("title", None, f"{title}: {detail}" if detail else title), frame]
    middle: dict[str, Value] = {"x": place.x, "class": "middle name"}
    if detail:
        parts.append(element("text", {**middle, "y": place.y + 18}, title))
        cut = detail if len(detail) <= _LETTERS else f"{detail[: _LETTERS - 1]}…"
        parts.append(element("text", {"x": place.x, "class": "middle detail", "y": place.y + 33}, cut))
    else:
        parts.append(element("text", {**middle, "y": place.y + BOX_HEIGHT / 2 + 5}, title))
    return element("g", None, *parts)
