"""What the graph of a cell says about its function beyond which operation each edge has: numbers for a predictor.

Kadlecová, Lukasik, Pilát, Vidnerová, Safari, Neruda and Hutter 2024, Surprisingly strong performance prediction with neural graph
features: counts of operations, and the lengths and contents of paths, predict accuracy better than zero-cost proxies do.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

Edge = tuple[int, int, str]
"""Source, target and operation. Nodes are numbered so that a source is smaller than its target; two nodes may share several edges."""
AnyEdge = TypeVar("AnyEdge", Edge, tuple[int, int])
"""An edge, or one whose operation is of no matter."""


def path_features(edges: Sequence[Edge], output: int, groups: Sequence[Collection[str]], inputs: Collection[int] = (0,)) -> list[float]:
    """Return 3 + 4 x len(groups) numbers of a graph whose edges all carry something.

    First the number of paths from an input to the output, the length of the shortest and of the longest; then for each group of
    operations the number of edges on such paths that are in the group, the most and the fewest of them on one path, and the number
    of paths made only of them. All are 0 where the output cannot be reached. Time is linear in the edges, however many paths there are.
    """
    live = live_edges(edges, output, inputs)
    numbers = [_paths(live, output, inputs), *_extremes(live, output, inputs, lambda _: True)]
    for group in groups:
        inside = [edge for edge in live if edge[2] in group]
        fewest, most = _extremes(live, output, inputs, lambda operation, group=group: operation in group)  # type: ignore[misc]
        numbers += [len(inside), most, fewest, _paths(inside, output, inputs)]
    return [float(number) for number in numbers]


def live_edges(edges: Iterable[AnyEdge], output: int, inputs: Collection[int] = (0,)) -> list[AnyEdge]:
    """Return the edges that lie on a path from an input to the output, in the order in which they are computed."""
    ordered = sorted(edges, key=lambda edge: (edge[1], edge[0]))
    fed, used = set(inputs), {output}
    for source, target, *_ in ordered:
        if source in fed:
            fed.add(target)
    for source, target, *_ in reversed(ordered):
        if target in used:
            used.add(source)
    return [edge for edge in ordered if edge[0] in fed and edge[1] in used]


def _paths(edges: Sequence[Edge], output: int, inputs: Collection[int]) -> int:
    """The number of paths from an input to the output."""
    counts = dict.fromkeys(inputs, 1)
    for source, target, _ in edges:
        if source in counts:
            counts[target] = counts.get(target, 0) + counts[source]
    return counts.get(output, 0)


def _extremes(edges: Sequence[Edge], output: int, inputs: Collection[int], counts: Callable[[str], bool]) -> tuple[int, int]:
    """The fewest and the most edges whose operation counts, over all paths from an input to the output."""
    fewest, most = dict.fromkeys(inputs, 0), dict.fromkeys(inputs, 0)
    for source, target, operation in edges:
        if source in fewest:
            step = int(counts(operation))
            fewest[target] = min(fewest.get(target, fewest[source] + step), fewest[source] + step)
            most[target] = max(most.get(target, 0), most[source] + step)
    return fewest.get(output, 0), most.get(output, 0)
