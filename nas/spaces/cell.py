"""The cell space of NAS-Bench-201: four nodes, six edges, five operations, the same cell stacked in every place.

Dong and Yang 2020, NAS-Bench-201: Extending the scope of reproducible neural architecture search. With widths 16, 32, 64 and 5
cells on 32 x 32 images it is the published network; smaller settings keep its shape.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from itertools import permutations
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

from annotated_types import MinLen
from pydantic import Field, PositiveInt

from nas.architecture import Architecture
from nas.spaces.base import Options, Picker, SearchSpace, image_channels
from nas.spaces.graph import path_features
from nas.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn

    from nas.architecture import Mixture

NODES = 4
EDGES = tuple((source, target) for target in range(1, NODES) for source in range(target))
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

Value = tuple[Any, ...]
"""What a node holds, as a sorted multiset of terms: the cell's input, a pooled value, or a convolution by its edge."""


@final
class Cell(SearchSpace):
    """Stacked cells whose six edges are searched: 15,625 cells, 5,260 different functions."""

    widths: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (16, 32, 64)
    """Channels of each stage; a residual block with stride 2 stands between two stages."""
    cells: int = Field(5, ge=1)
    """Cells per stage."""
    stem: Literal[1, 3, 5, 7] = 3
    """Kernel size of the first convolution."""

    def define(self, pick: Picker, task: Task) -> "nn.Module":
        """Stem, stages of cells with reductions between them, and the task's head. Wants images (channels, height, width)."""
        from torch import nn

        from nas.networks.cell import CellBlock, Reduction

        width, inputs = self.widths[0], image_channels(task, "cell")
        stem = nn.Conv2d(inputs, width, self.stem, padding=self.stem // 2, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(width)]
        for stage, outputs in enumerate(self.widths):
            if stage:
                layers.append(Reduction(width, outputs))
            width = outputs
            layers += [CellBlock(_edges(pick, width)) for _ in range(self.cells)]
        return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), task.head(width))

    def discretize(self, mixture: "Mixture", task: Task) -> Architecture:
        """Return the heaviest operation besides `none` of every edge, as the DARTS paper does (section 2.4).

        How heavy `none` is says nothing: it only scales what the others add, and normalisation undoes that (Liu et al. 2019).
        """
        return Architecture({name: OPERATIONS[1 + int(mixture[name][1:].argmax())] for name in mixture})

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        """Return the sound form of the cell; see `canonical_form`. Raises ValueError for an unknown operation."""
        return canonical_form(tuple(architecture[f"edge_{source}_{target}"] for source, target in EDGES))

    def features(self, architecture: Mapping[str, str]) -> list[float]:
        """Return how often each operation occurs, then what `path_features` says of 3x3, of all convolutions, of skips and of pools."""
        edges = [(source, target, architecture[f"edge_{source}_{target}"]) for source, target in EDGES]
        kinds = [kind for _, _, kind in edges]
        groups = (("nor_conv_3x3",), ("nor_conv_1x1", "nor_conv_3x3"), ("skip_connect",), ("avg_pool_3x3",))
        counts = [float(kinds.count(operation)) for operation in OPERATIONS]
        return counts + path_features([edge for edge in edges if edge[2] != "none"], NODES - 1, groups)


def _edges(pick: Picker, channels: int) -> dict[tuple[int, int], "nn.Module"]:
    """The six edges of a cell; all cells share their decisions."""
    return {(source, target): pick(f"edge_{source}_{target}", _operations(channels)) for source, target in EDGES}


def _operations(channels: int) -> Options:
    from torch import nn

    from nas.networks.cell import relu_conv_norm
    from nas.networks.shared_edges import Zero

    return {
        "none": Zero,
        "skip_connect": nn.Identity,
        "nor_conv_1x1": partial(relu_conv_norm, channels, channels, 1),
        "nor_conv_3x3": partial(relu_conv_norm, channels, channels, 3),
        "avg_pool_3x3": partial(nn.AvgPool2d, 3, stride=1, padding=1, count_include_pad=False),
    }


@lru_cache(maxsize=65536)
def canonical_form(operations: tuple[str, ...]) -> str:
    """Return a text that two cells share only when they compute the same function of their input and weights.

    A node's value is the multiset of what is added into it. `none`, and any operation on a node that holds nothing, adds
    nothing; a skip adds the terms of its source; equal pooled values are one term; every convolution has weights of its own
    and is a term by itself. Convolutions that the output does not depend on are dropped, and those left are numbered in the
    order that gives the smallest text, since which edge a convolution sits on is only a name.
    """
    kinds = dict(zip(EDGES, operations, strict=True))
    for (source, target), kind in kinds.items():
        if kind not in OPERATIONS:
            raise ValueError(f"edge_{source}_{target} is {kind!r}: pick one of {', '.join(OPERATIONS)}")
    values = _node_values(kinds)
    output = values[NODES - 1]
    instances = sorted(_instances(output, values))
    texts = []
    for order in permutations(range(len(instances))):
        labels = dict(zip(instances, order, strict=True))
        definitions = sorted((labels[edge], f"{kinds[edge]}({_text(values[edge[0]], labels)})") for edge in instances)
        texts.append(";".join(f"{label}={text}" for label, text in definitions) + ">" + _text(output, labels))
    return min(texts)


def _node_values(kinds: Mapping[tuple[int, int], str]) -> list[Value]:
    values: list[Value] = [("x",)]
    for target in range(1, NODES):
        terms: list[Any] = []
        for source in range(target):
            kind, value = kinds[source, target], values[source]
            if kind == "none" or not value:
                continue
            if kind == "skip_connect":
                terms += value
            elif kind == "avg_pool_3x3":
                terms.append(("pool", value))
            else:
                terms.append((source, target))
        values.append(tuple(sorted(terms, key=repr)))
    return values


def _instances(value: Value, values: list[Value]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for term in value:
        if term == "x":
            continue
        if term[0] == "pool":
            found |= _instances(term[1], values)
        else:
            found |= {term} | _instances(values[term[0]], values)
    return found


def _text(value: Value, labels: Mapping[tuple[int, int], int]) -> str:
    words = []
    for term in value:
        if term == "x":
            words.append("x")
        elif term[0] == "pool":
            words.append(f"pool({_text(term[1], labels)})")
        else:
            words.append(str(labels[term]))
    return "+".join(sorted(words))
