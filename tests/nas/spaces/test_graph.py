"""Path features against paths that are written down one by one."""

from collections.abc import Collection, Iterator

import numpy as np
import pytest

from nas.spaces.cell import EDGES, OPERATIONS, Cell
from nas.spaces.graph import Edge, live_edges, path_features

GROUPS = (("a",), ("a", "b"), ("z",))


def paths(edges: list[Edge], node: int, output: int) -> Iterator[list[Edge]]:
    """All paths from a node to the output."""
    if node == output:
        yield []
    for edge in edges:
        if edge[0] == node:
            yield from ([edge, *rest] for rest in paths(edges, edge[1], output))


def slow_features(edges: list[Edge], output: int, inputs: Collection[int]) -> list[float]:
    found = [path for node in inputs for path in paths(edges, node, output)]
    lengths = [len(path) for path in found] or [0]
    numbers = [len(found), min(lengths), max(lengths)]
    for group in GROUPS:
        counts = [sum(edge[2] in group for edge in path) for path in found] or [0]
        on_paths = {position for path in found for position, edge in enumerate(edges) if any(edge is other for other in path)}
        inside = sum(edges[position][2] in group for position in on_paths)
        numbers += [inside, max(counts), min(counts), sum(all(edge[2] in group for edge in path) for path in found)]
    return [float(number) for number in numbers]


@pytest.mark.parametrize("inputs", [(0,), (0, 1)])
def test_features_are_those_of_all_paths(inputs: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    lengths = set()
    for _ in range(200):
        pairs = [
            (source, target) for target in range(2, 6) for source in range(target) for _ in range(rng.integers(0, 3)) if rng.random() < 0.5
        ]
        edges: list[Edge] = [(source, target, str(rng.choice(["a", "b", "c"]))) for source, target in pairs]
        rng.shuffle(edges)  # type: ignore[arg-type]
        edges = [(int(source), int(target), operation) for source, target, operation in edges]
        found = path_features(edges, 5, GROUPS, inputs)
        assert found == slow_features(edges, 5, inputs)
        lengths.add(found[2])
    assert lengths >= {0.0, 1.0, 2.0, 3.0}


def test_edges_that_lead_nowhere_or_come_from_nowhere_are_dropped() -> None:
    assert live_edges([(2, 3, "a"), (0, 1, "a"), (1, 3, "b"), (0, 4, "a")], 3) == [(0, 1, "a"), (1, 3, "b")]
    assert path_features([(2, 3, "a"), (0, 1, "a")], 3, GROUPS) == [0.0] * 15


def test_many_paths_take_no_longer_than_few() -> None:
    edges = [(node, node + 1, operation) for node in range(200) for operation in ("a", "b", "c")]
    assert path_features(edges, 200, (("a",),)) == [float(3**200), 200.0, 200.0, 200.0, 200.0, 0.0, 1.0]


def test_features_of_a_cell() -> None:
    operations = ["nor_conv_3x3", "none", "nor_conv_1x1", "skip_connect", "avg_pool_3x3", "nor_conv_3x3"]
    architecture = {f"edge_{source}_{target}": operation for (source, target), operation in zip(EDGES, operations, strict=True)}
    # Paths: 0-3 by the skip, 0-1-3 by 3x3 and pool, 0-1-2-3 by 3x3, 1x1 and 3x3.
    assert Cell().features(architecture) == [
        *(1, 1, 1, 2, 1),
        *(3, 1, 3),
        *(2, 2, 0, 0),
        *(3, 3, 0, 1),
        *(1, 1, 0, 1),
        *(1, 1, 0, 0),
    ]
    assert len(Cell().features(dict.fromkeys(architecture, "none"))) == len(OPERATIONS) + 19
