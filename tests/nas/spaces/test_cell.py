"""The cell space: the published numbers, and that equal forms are equal functions and others are not."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
import pytest
import torch
from small_images import random_images, task_of
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.spaces.cell import EDGES, NODES, OPERATIONS, Cell, canonical_form
from nas.spaces.graph import live_edges
from nas.training.cost import cost

Operations = tuple[str, ...]


def cell(*operations: str) -> Architecture:
    """A cell from its operations in the order of `EDGES`."""
    return Architecture({f"edge_{source}_{target}": operation for (source, target), operation in zip(EDGES, operations, strict=True)})


def test_all_cells_make_5260_functions() -> None:
    forms = {canonical_form(operations) for operations in product(OPERATIONS, repeat=6)}
    assert len(forms) == 5260


def test_the_published_network_has_its_published_size() -> None:
    three, one = "nor_conv_3x3", "nor_conv_1x1"
    landmark = cell(three, three, three, "skip_connect", one, three)
    assert landmark["edge_0_3"] == "skip_connect"
    assert landmark["edge_1_3"] == one
    task = task_of((32, 32, 3))
    with torch.device("meta"):
        network = Cell().build(landmark, task)
    found = cost(network, task)
    assert found["parameters"] == 1_073_466
    assert found["flops"] / 2 == pytest.approx(153.27e6, rel=0.002)


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def one_cell(operations: Operations, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Cell(widths=(4,), cells=1).build(cell(*operations), task_of(classes=3)).eval()


def outputs(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(task_of(classes=3).prepare()(random_images(3)))


def matched(first: nn.Module, second: nn.Module) -> Iterator[Tensor]:
    """Outputs of the second network under each way to give it the first one's weights; which edge they sit on is a name."""
    second[0].load_state_dict(first[0].state_dict())
    second[-1].load_state_dict(first[-1].state_dict())
    theirs, mine = convolutions(first)[1:], convolutions(second)[1:]
    for order in permutations(theirs):
        if all(one.weight.shape == other.weight.shape for one, other in zip(order, mine, strict=True)):
            for one, other in zip(order, mine, strict=True):
                other.load_state_dict(one.state_dict())
            yield outputs(second)


def test_cells_of_one_form_are_one_function() -> None:
    groups: dict[str, list[Operations]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for operations in product(OPERATIONS, repeat=6):
        groups[canonical_form(operations)].append(operations)
    larger = [group for group in groups.values() if len(group) > 1]
    for index in rng.choice(len(larger), 60, replace=False):
        group = larger[index]
        first, second = (group[position] for position in rng.choice(len(group), 2, replace=False))
        one = one_cell(first)
        assert any(torch.allclose(outputs(one), other, atol=1e-5) for other in matched(one, one_cell(second, seed=1))), (first, second)


def test_cells_of_different_forms_are_different_functions() -> None:
    rng, compared = np.random.default_rng(1), 0
    while compared < 60:
        first = tuple(str(operation) for operation in rng.choice(OPERATIONS, 6))
        position = int(rng.integers(6))
        second = (*first[:position], str(rng.choice(OPERATIONS)), *first[position + 1 :])
        if canonical_form(first) == canonical_form(second):
            continue
        one, other = one_cell(first), one_cell(second, seed=1)
        compared += 1
        if sorted(layer.kernel_size for layer in convolutions(one)) == sorted(layer.kernel_size for layer in convolutions(other)):
            assert not any(torch.allclose(outputs(one), found, atol=1e-6) for found in matched(one, other)), (first, second)


@pytest.mark.parametrize("kind", OPERATIONS)
def test_a_cell_that_leads_nowhere_builds_and_trains(kind: str) -> None:
    operations = (kind, kind, kind, "none", "none", "none")
    assert canonical_form(operations) == canonical_form(("none",) * 6)
    task = task_of(classes=3)
    network = Cell(widths=(4, 8), cells=2).build(cell(*operations), task).train()
    loss = task.loss(network(task.prepare()(random_images(4))), torch.arange(4) % 3, 0.0)
    loss.backward()
    assert loss.isfinite()
    assert network[-1][-1].bias.grad.abs().sum() > 0


def test_two_convolutions_side_by_side_are_not_one() -> None:
    """The rule that is often used merges them; only one of the two shares its weights."""
    shared = canonical_form(("nor_conv_3x3", "skip_connect", "none", "none", "skip_connect", "none"))
    twice = canonical_form(("nor_conv_3x3", "nor_conv_3x3", "none", "none", "skip_connect", "skip_connect"))
    once_used_twice = canonical_form(("nor_conv_3x3", "none", "skip_connect", "none", "skip_connect", "skip_connect"))
    assert len({shared, twice, once_used_twice}) == 3


def test_a_mixture_stands_for_its_heaviest_operations_besides_none() -> None:
    mixture = {f"edge_{source}_{target}": torch.tensor([0.9, 0.01, 0.02, 0.04, 0.03]) for source, target in EDGES}
    mixture["edge_0_2"] = torch.tensor([0.1, 0.6, 0.1, 0.1, 0.1])
    assert Cell().discretize(mixture, task_of()) == cell("nor_conv_3x3", "skip_connect", *["nor_conv_3x3"] * 4)


def test_live_edges_lie_between_input_and_output() -> None:
    assert live_edges(set(EDGES), NODES - 1) == list(EDGES)
    assert live_edges({(0, 1), (1, 2)}, NODES - 1) == []
    assert live_edges({(1, 2), (2, 3)}, NODES - 1) == []
    assert live_edges({(0, 1), (1, 2), (1, 3)}, NODES - 1) == [(0, 1), (1, 3)]


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(ValueError, match="edge_1_2 is 'conv': pick one of none, "):
        canonical_form(("none", "none", "conv", "none", "none", "none"))


def test_other_inputs_than_images_are_refused() -> None:
    class Row:
        input_shape = (16,)

    with pytest.raises(ValueError, match="space 'cell' wants images"):
        Cell().choices(Row())  # type: ignore[arg-type]
