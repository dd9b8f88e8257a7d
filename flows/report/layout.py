"""Places for the boxes of a graph, layer by layer from the top (after Sugiyama, Tagawa and Toda 1981, in the simplest form)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

BOX_WIDTH, BOX_HEIGHT, GAP, LAYER = 178, 42, 18, 68
_BEND = 14
"""Room for an edge that passes a layer."""


@final
@dataclass(slots=True)
class Place:
    """A box, or a bend of an edge that passes a layer: its middle, and what it hangs from."""

    layer: int
    box: int | None
    above: list["Place"]
    x: float = 0.0

    @property
    def width(self) -> float:
        """How much room it takes beside others."""
        return BOX_WIDTH if self.box is not None else _BEND

    @property
    def y(self) -> float:
        """The upper edge."""
        return float(self.layer * LAYER)


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """The places of the boxes in their order, the edges as (box above, box below, points on the way), and the size of it all."""

    boxes: Sequence[Place]
    edges: Sequence[tuple[Place, Place, Sequence[Place]]]
    width: float
    height: float


def layout(inputs: Sequence[Sequence[int]]) -> Layout:
    """Place boxes of which each reads earlier ones; `inputs` holds their numbers, one list per box."""
    boxes: list[Place] = []
    layers: list[list[Place]] = []
    edges = []
    for number, sources in enumerate(inputs):
        layer = 1 + max((boxes[source].layer for source in sources), default=-1)
        box = Place(layer, number, [])
        for source in dict.fromkeys(sources):
            chain = [boxes[source]]
            for between in range(boxes[source].layer + 1, layer):
                chain.append(Place(between, None, [chain[-1]]))
                _put(layers, chain[-1])
            box.above.append(chain[-1])
            edges.append((boxes[source], box, chain[1:]))
        boxes.append(box)
        _put(layers, box)
    for places in layers:
        _arrange(places)
    return _moved(boxes, edges, layers)


def _put(layers: list[list[Place]], place: Place) -> None:
    while len(layers) <= place.layer:
        layers.append([])
    layers[place.layer].append(place)


def _wish(place: Place) -> float:
    """Below what it hangs from; bends do not pull a box aside."""
    pull = [above for above in place.above if above.box is not None] or place.above
    return sum(above.x for above in pull) / len(pull) if pull else 0.0


def _arrange(places: list[Place]) -> None:
    """Order a layer by what its members want, push them apart, and keep the boxes where they wanted to be in the mean.

    A box that is alone in its layer goes back to the middle, or deep graphs would drift aside.
    """
    if len(places) == 1:
        places[0].x = 0.0
        return
    wishes = {id(place): _wish(place) for place in places}
    places.sort(key=lambda place: (wishes[id(place)], place.box is None))
    right = -float("inf")
    for place in places:
        place.x = max(wishes[id(place)], right + place.width / 2)
        right = place.x + place.width / 2 + GAP
    meant = [place for place in places if place.box is not None] or places
    shift = sum(place.x - wishes[id(place)] for place in meant) / len(meant)
    for place in places:
        place.x -= shift


def _moved(boxes: list[Place], edges: list[tuple[Place, Place, list[Place]]], layers: list[list[Place]]) -> Layout:
    """Everything moved so that the drawing begins at zero."""
    every = [place for places in layers for place in places]
    left = min((place.x - place.width / 2 for place in every), default=0.0)
    for place in every:
        place.x -= left
    width = max((place.x + place.width / 2 for place in every), default=0.0)
    return Layout(boxes, edges, width, (len(layers) - 1) * LAYER + BOX_HEIGHT if layers else 0.0)
