"""Cells of the darts space, written shortly, and with their nodes in another order."""

from itertools import permutations

import numpy as np
import torch
from small_images import task_of
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.spaces.darts import EDGES, INPUTS, KINDS, NONE, TARGETS, Darts, edge_name

SMALL = Darts(channels=4)

Terms = list[tuple[str, int]]

PUBLISHED: dict[str, Terms] = {
    "normal": [
        *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        *(("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)),
    ],
    "reduction": [
        *(("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1)),
        *(("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)),
    ],
}
"""The cells that the paper found on CIFAR-10 in second order (figures 4 and 5): two operations and their sources per node."""


def cells(**terms: Terms) -> Architecture:
    """Cells from the operation and source of each node's two inputs."""
    answers = {edge_name(kind, edge): NONE for kind in KINDS for edge in EDGES}
    for kind, inputs in terms.items():
        answers |= {edge_name(kind, (source, INPUTS + index // 2)): operation for index, (operation, source) in enumerate(inputs)}
    return Architecture(answers)


def two_inputs(rng: np.random.Generator, space: Darts = SMALL) -> Architecture:
    return space.repair(space.choices(task_of()).sample(rng), rng)


def operations(architecture: Architecture, kind: str) -> tuple[str, ...]:
    return tuple(architecture[edge_name(kind, edge)] for edge in EDGES)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def renamed(architecture: Architecture, order: dict[str, dict[int, int]]) -> Architecture:
    """The same cells with their nodes in another order."""
    answers = {edge_name(kind, edge): NONE for kind in KINDS for edge in EDGES}
    for kind, names in order.items():
        for source, target in EDGES:
            if (answer := architecture[edge_name(kind, (source, target))]) != NONE:
                answers[edge_name(kind, (names[source], names[target]))] = answer
    return Architecture(answers)


def orders(architecture: Architecture, kind: str) -> list[dict[int, int]]:
    """All orders of a cell's nodes in which every edge still leads forward."""
    found = []
    for order in permutations(TARGETS):
        names = dict(enumerate((0, 1, *order)))
        if all(names[s] < names[t] for s, t in EDGES if architecture[edge_name(kind, (s, t))] != NONE):
            found.append(names)
    return found


def blocks_moved(weight: Tensor, names: dict[int, int]) -> Tensor:
    """A weight that reads four nodes side by side, for nodes in another order."""
    blocks = weight.chunk(4, dim=1)
    moved = {names[target]: blocks[target - INPUTS] for target in TARGETS}
    return torch.cat([moved[target] for target in TARGETS], dim=1)


def give(first: nn.Module, second: nn.Module, order: dict[str, dict[int, int]], kinds: list[str]) -> None:
    """Copy the weights of a network to the one of the cells in another order."""
    second.stem.load_state_dict(first.stem.state_dict())
    for index, kind in enumerate(kinds):
        one, other = first.cells[str(index)], second.cells[str(index)]
        for name, module in one.edges.items():
            source, target = (order[kind][int(end)] for end in name.split("_"))
            other.edges[f"{source}_{target}"].load_state_dict(module.state_dict())
        for name, entry in one.entries.items():
            before = index - INPUTS + int(name)
            state = entry.state_dict()
            if before >= 0:
                state = {key: blocks_moved(value, order[kinds[before]]) if value.ndim == 4 else value for key, value in state.items()}
            other.entries[name].load_state_dict(state)
    head = first.head.state_dict()
    second.head.load_state_dict({key: blocks_moved(value, order[kinds[-1]]) if value.ndim == 2 else value for key, value in head.items()})
