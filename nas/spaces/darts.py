"""The cell space of DARTS: a normal and a reduction cell, each with two inputs, four nodes and fourteen edges of eight operations.

Liu, Simonyan and Yang 2019, DARTS: Differentiable architecture search, sections 2.1 and 3.1 and appendix A.1. With 36 channels and
20 cells it is the network that the paper trains at the end, with 16 and 8 the one that it searches.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import permutations
from typing import TYPE_CHECKING, final

import numpy as np
from pydantic import Field, PositiveInt

from nas.architecture import Architecture
from nas.spaces.base import Options, Picker, SearchSpace, image_channels
from nas.spaces.parts import answer
from nas.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn

    from nas.architecture import Mixture

INPUTS, NODES = 2, 4
TARGETS = range(INPUTS, INPUTS + NODES)
EDGES = tuple((source, target) for target in TARGETS for source in range(target))
KINDS = ("normal", "reduction")
NONE = "none"
OPERATIONS = (
    *(NONE, "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)

Edge = tuple[int, int]


@final
class Darts(SearchSpace):
    """Stacked cells. Each edge carries the operation it is answered with, so cells may be denser than those of the paper.

    The paper gives every node two inputs and `none` to its other edges: `discretize` returns such cells, and `repair` makes them.
    """

    channels: int = Field(8, ge=2)
    """Channels of a node in the first cells; each of the two reduction cells doubles them."""
    cells: int = Field(3, ge=3)
    """Cells in all; those at one and at two thirds are reduction cells, the others normal cells."""
    stem_multiplier: PositiveInt = 3
    """Channels of the first convolution, in multiples of `channels`."""
    affine: bool = True
    """Whether the normalisations inside cells learn scale and shift: on to train one cell, off in the paper's own search."""

    def define(self, pick: Picker, task: Task) -> "nn.Module":
        """Stem, cells, and the task's head. Wants images (channels, height, width) that can be halved twice."""
        from torch import nn

        from nas.networks.darts import CellBlock, Network, Zero

        inputs = image_channels(task, "darts")
        _refuse_small(task.input_shape)
        made = [self._edges(pick, index) for index in range(self.cells)]
        live = live_edges([{edge for edge, module in edges.items() if not isinstance(module, Zero)} for edges in made])
        cells = {
            index: CellBlock({edge: made[index][edge] for edge in edges}, self._entries(index, edges), TARGETS)
            for index, edges in enumerate(live)
            if edges
        }
        width = self._width(-1)
        stem = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        outputs = self._width(self.cells - 1)
        return Network(stem, cells, (self.cells - 1, outputs), task.head(outputs))

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        """Return the sound form of both cells; see `canonical_form`. Raises KeyError or ValueError for a missing or unknown answer."""
        return " ".join(canonical_form(tuple(answer(architecture, edge_name(kind, edge), OPERATIONS) for edge in EDGES)) for kind in KINDS)

    def discretize(self, mixture: "Mixture", task: Task) -> Architecture:
        """Return the cells of the paper's section 2.4: a node keeps the two edges whose heaviest operation besides `none` weighs most.

        A kept edge gets that operation, the others `none`; of equal weights the first wins.
        """
        answers: dict[str, str] = {}
        for kind in KINDS:
            for target in TARGETS:
                weights = {edge_name(kind, (source, target)): mixture[edge_name(kind, (source, target))][1:] for source in range(target)}
                kept = sorted(weights, key=lambda name, weights=weights: -float(weights[name].max()))[:INPUTS]  # type: ignore[misc]
                answers |= {name: OPERATIONS[1 + int(found.argmax())] if name in kept else NONE for name, found in weights.items()}
        return Architecture(answers)

    def repair(self, architecture: Mapping[str, str], rng: np.random.Generator) -> Architecture:
        """Return the nearest cells with exactly two inputs per node; which edges go or come, and what they carry, is drawn."""
        answers = dict(architecture)
        for kind in KINDS:
            for target in TARGETS:
                names = [edge_name(kind, (source, target)) for source in range(target)]
                open_edges = [name for name in names if answers[name] != NONE]
                closed = [name for name in names if answers[name] == NONE]
                for name in rng.permutation(open_edges)[INPUTS:]:
                    answers[str(name)] = NONE
                for name in rng.permutation(closed)[: max(0, INPUTS - len(open_edges))]:
                    answers[str(name)] = str(rng.choice(OPERATIONS[1:]))
        return Architecture(answers)

    def _reduces(self, index: int) -> bool:
        return index in (self.cells // 3, 2 * self.cells // 3)

    def _channels(self, index: int) -> int:
        """Channels of a node in a cell."""
        return self.channels << sum(self._reduces(earlier) for earlier in range(index + 1))

    def _width(self, index: int) -> int:
        """Channels of a cell's output, or of the stem's, which stands for the two cells before the first."""
        return NODES * self._channels(index) if index >= 0 else self.stem_multiplier * self.channels

    def _edges(self, pick: Picker, index: int) -> dict[Edge, "nn.Module"]:
        channels, kind = self._channels(index), KINDS[self._reduces(index)]
        made = {}
        for edge in EDGES:
            stride = 2 if self._reduces(index) and edge[0] < INPUTS else 1
            made[edge] = pick(edge_name(kind, edge), _operations(channels, stride, self.affine))
        return made

    def _entries(self, index: int, edges: Sequence[Edge]) -> dict[int, "nn.Module"]:
        """What brings the outputs of the two cells before to a cell's size, for those inputs that are used."""
        from nas.networks.darts import Halving, pointwise

        entries: dict[int, nn.Module] = {}
        for source in sorted({source for source, _ in edges if source < INPUTS}):
            inputs, outputs = self._width(index - INPUTS + source), self._channels(index)
            halve = source == 0 and index > 0 and self._reduces(index - 1)
            entries[source] = Halving(inputs, outputs, self.affine) if halve else pointwise(inputs, outputs, self.affine)
        return entries


def edge_name(kind: str, edge: Edge) -> str:
    """Return the name of the decision on an edge of the normal or the reduction cell; nodes 0 and 1 are the cell's inputs."""
    return f"{kind}.edge_{edge[0]}_{edge[1]}"


def _refuse_small(shape: Sequence[int]) -> None:
    # An image of one pixel is let through: it has no height and width to lose.
    if max(shape[1:]) == 2:
        raise ValueError(
            f"space 'darts' halves height and width twice, but images of {shape[1]} x {shape[2]} are one pixel after the first time: "
            "prepare images of 3 x 3 or more, or choose another space"
        )


def live_edges(cells: Sequence[set[Edge]]) -> list[list[Edge]]:
    """Return of each cell's open edges those that carry something from the stem to the last cell; all nodes of a cell are its output."""
    fed = {-2, -1}
    live: list[list[Edge]] = []
    for index, edges in enumerate(cells):
        nodes = {source for source in range(INPUTS) if index - INPUTS + source in fed}
        for target in TARGETS:
            nodes |= {target} if any((source, target) in edges for source in nodes) else set()
        live.append([edge for edge in EDGES if edge in edges and edge[0] in nodes])
        fed |= {index} if live[index] else set()
    used = {len(cells) - 1}
    for index in reversed(range(len(cells))):
        live[index] = live[index] if index in used else []
        used |= {index - INPUTS + source for source, _ in live[index] if source < INPUTS}
    return live


def _operations(channels: int, stride: int, affine: bool) -> Options:
    from torch import nn

    from nas.networks.darts import Halving, Zero, depthwise, normalised, separable

    return {
        NONE: partial(Zero, stride),
        "max_pool_3x3": partial(normalised, nn.MaxPool2d(3, stride, padding=1), channels),
        "avg_pool_3x3": partial(normalised, nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), channels),
        "skip_connect": nn.Identity if stride == 1 else partial(Halving, channels, channels, affine),
        "sep_conv_3x3": partial(separable, channels, 3, stride, affine),
        "sep_conv_5x5": partial(separable, channels, 5, stride, affine),
        "dil_conv_3x3": partial(depthwise, channels, (3, 2), stride, affine),
        "dil_conv_5x5": partial(depthwise, channels, (5, 2), stride, affine),
    }


@lru_cache(maxsize=65536)
def canonical_form(operations: tuple[str, ...]) -> str:
    """Return a text that two cells share only when they compute the same function of their inputs and weights.

    The four nodes have no order: what reads them side by side is a layer with weights per channel, so the text is the smallest
    over all orders. Edges that are `none`, or that start at a node into which nothing flows, are dropped.
    """
    edges = {edge: operation for edge, operation in zip(EDGES, operations, strict=True) if operation != NONE}
    kept = live_edges([set(edges)])[0]
    texts = []
    for order in permutations(TARGETS):
        label = dict(enumerate((*range(INPUTS), *order)))
        texts.append(";".join(sorted(f"{label[source]}>{label[target]}:{edges[source, target]}" for source, target in kept)))
    return min(texts)
