"""The identity of NAS-Bench-201 cells as it was published, for comparison with tables and papers that count by it.

Dong and Yang 2020, NAS-Bench-201, section 3.1: 6,466 of the 15,625 cells are different by this rule. It is not the identity that
searches use (`nas.spaces.cell.canonical_form`, 5,260): it keeps cells apart that differ only in edges that carry nothing, and 430
of its classes join different functions, because a convolution that two nodes read and two equal convolutions look the same in it.
"""

from collections.abc import Sequence

_NOTHING = "#"


def published_form(operations: Sequence[str]) -> str:
    """Return the published text of a cell: equal texts, equal cells by the published rule.

    `operations` are those of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3. A node's text is that of its edges, sorted and joined; a skip
    is the text of its source, `none` and whatever reads a node of exactly one empty edge is empty.
    """
    nodes, left = ["0"], list(operations)
    while left:
        terms = sorted(_term(operation, source) for operation, source in zip(left, nodes, strict=False))
        del left[: len(nodes)]
        nodes.append("+".join(terms))
    return nodes[-1]


def _term(operation: str, source: str) -> str:
    if operation == "none" or source == _NOTHING:
        return _NOTHING
    return source if operation == "skip_connect" else f"({source})@{operation}"
