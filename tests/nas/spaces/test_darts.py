"""The darts space: the published sizes, cells of one form, two inputs per node, and what leads nowhere."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch
from darts_cells import PUBLISHED, SMALL, cells, give, orders, parameters, renamed, two_inputs
from pydantic import ValidationError
from small_images import task_of
from space_checks import assert_loss_falls, assert_mixture_learns, assert_single_paths_match, copy_in_order, inputs_of, scramble
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.networks.darts import Halving
from nas.spaces.darts import EDGES, INPUTS, KINDS, NONE, OPERATIONS, TARGETS, Darts, canonical_form, edge_name, live_edges


def test_the_published_networks_have_their_published_sizes() -> None:
    task = task_of((32, 32, 3))
    with torch.device("meta"):
        assert parameters(Darts(channels=36, cells=20).build(cells(**PUBLISHED), task)) == 3_349_342
        assert parameters(Darts(channels=16, cells=8, affine=False).supernet(task)) == 1_930_618


def test_two_cells_of_fourteen_edges_with_eight_operations() -> None:
    choices = SMALL.choices(task_of())
    assert [choice.name for choice in choices if choice.name.startswith("normal")] == [edge_name("normal", edge) for edge in EDGES]
    assert {choice.name for choice in choices} == {edge_name(kind, edge) for kind in KINDS for edge in EDGES}
    assert len(choices) == 28
    assert {choice.options for choice in choices} == {OPERATIONS}
    assert [option for option in OPERATIONS if option.startswith("skip")] == ["skip_connect"]


@pytest.mark.parametrize(("count", "reductions"), [(3, [1, 2]), (4, [1, 2]), (8, [2, 5]), (20, [6, 13])])
def test_reduction_cells_stand_at_one_and_two_thirds(count: int, reductions: list[int]) -> None:
    asked: list[str] = []

    def note(name: str, options: dict[str, object]) -> nn.Module:
        asked.append(name.split(".")[0])
        return nn.Identity()

    with torch.device("meta"):
        Darts(cells=count).define(note, task_of())  # type: ignore[arg-type]
    assert [index for index in range(count) if asked[14 * index] == "reduction"] == reductions


# Canonical form


def test_cells_of_one_form_are_one_function() -> None:
    task, rng, compared = task_of(classes=3), np.random.default_rng(0), 0
    inputs, kinds = inputs_of(task), ["normal", "reduction", "reduction"]
    torch.manual_seed(0)
    while compared < 6:
        architecture = two_inputs(rng)
        drawn = {kind: orders(architecture, kind) for kind in KINDS}
        order = {kind: found[int(rng.integers(len(found)))] for kind, found in drawn.items()}
        other = renamed(architecture, order)
        assert SMALL.canonical(other, task) == SMALL.canonical(architecture, task)
        if other == architecture:
            continue
        compared += 1
        one, two = SMALL.build(architecture, task), SMALL.build(other, task)
        scramble(one)
        give(one, two, order, kinds)
        assert parameters(one) == parameters(two)
        torch.testing.assert_close(two.eval()(inputs), one.eval()(inputs), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(two.train()(inputs), one.train()(inputs), atol=1e-4, rtol=1e-4)


def test_a_changed_operation_is_another_function() -> None:
    task, rng = task_of(classes=3), np.random.default_rng(1)
    inputs, choices = inputs_of(task), SMALL.choices(task)
    torch.manual_seed(0)
    for _ in range(6):
        architecture = two_inputs(rng)
        mutant = choices.mutate(architecture, rng)
        assert SMALL.canonical(mutant, task) != SMALL.canonical(architecture, task)
        one, two = SMALL.build(architecture, task).eval(), SMALL.build(mutant, task).eval()
        scramble(one)
        if copy_in_order(one, two, inputs):
            assert not torch.allclose(one.eval()(inputs), two.eval()(inputs), atol=1e-5)


def test_forms_of_one_operation_are_graphs_up_to_the_order_of_nodes() -> None:
    """All 180 ways to give four nodes two inputs each, against a comparison of their matrices in every order."""
    pairs = [list(combinations(range(target), 2)) for target in TARGETS]
    matrices, forms = [], []
    for picked in product(*pairs):
        matrix = np.zeros((6, 6), dtype=bool)
        for target, sources in zip(TARGETS, picked, strict=True):
            matrix[list(sources), target] = True
        matrices.append(matrix)
        forms.append(canonical_form(tuple("skip_connect" if matrix[edge] else NONE for edge in EDGES)))
    assert len(forms) == 180
    same = {(one, two) for one, two in combinations(range(180), 2) if forms[one] == forms[two]}
    indices = [np.array((0, 1, *order)) for order in permutations(TARGETS)]
    moved = np.stack([np.stack([matrix[np.ix_(order, order)] for order in indices]) for matrix in matrices])
    equal = {(one, two) for one, two in combinations(range(180), 2) if (moved[one] == matrices[two]).all(axis=(1, 2)).any()}
    assert same == equal
    assert len(set(forms)) < 180


def test_edges_from_a_node_that_holds_nothing_do_not_count() -> None:
    task, architecture = task_of(), cells(**PUBLISHED)
    for edge in ((0, 2), (1, 2)):
        architecture = architecture.replace(edge_name("normal", edge), NONE)
    changed = architecture.replace("normal.edge_2_5", "sep_conv_5x5")
    assert SMALL.canonical(changed, task) == SMALL.canonical(architecture, task)
    one, two = SMALL.build(architecture, task), SMALL.build(changed, task)
    assert copy_in_order(one, two, inputs_of(task))
    torch.testing.assert_close(one.eval()(inputs_of(task)), two.eval()(inputs_of(task)))
    assert SMALL.canonical(cells(**PUBLISHED).replace("normal.edge_2_5", "sep_conv_5x5"), task) != SMALL.canonical(cells(**PUBLISHED), task)


def test_the_two_cells_are_told_apart() -> None:
    swapped = cells(normal=PUBLISHED["reduction"], reduction=PUBLISHED["normal"])
    assert SMALL.canonical(swapped, task_of()) != SMALL.canonical(cells(**PUBLISHED), task_of())


# Two inputs


def counts(architecture: Architecture) -> list[int]:
    """How many inputs each node of both cells has."""
    return [
        sum(architecture[edge_name(kind, (source, target))] != NONE for source in range(target)) for kind in KINDS for target in TARGETS
    ]


def test_a_mixture_becomes_cells_with_two_inputs_per_node() -> None:
    task = task_of()
    generator = torch.Generator().manual_seed(0)
    mixture = {choice.name: torch.rand(8, generator=generator).softmax(0) for choice in SMALL.choices(task)}
    found = SMALL.discretize(mixture, task)
    assert counts(found) == [2] * 8
    for kind, target in product(KINDS, TARGETS):
        weights = np.stack([mixture[edge_name(kind, (source, target))].numpy() for source in range(target)])[:, 1:]
        kept = [source for source in range(target) if found[edge_name(kind, (source, target))] != NONE]
        assert set(kept) == set(weights.max(axis=1).argsort()[-2:].tolist())
        assert all(found[edge_name(kind, (source, target))] == OPERATIONS[1 + weights[source].argmax()] for source in kept)


def test_none_is_never_picked_and_equal_edges_go_by_their_order() -> None:
    task = task_of()
    mixture = {choice.name: torch.tensor([0.93, *[0.01] * 7]) for choice in SMALL.choices(task)}
    mixture["normal.edge_4_5"] = torch.tensor([0.9, *[0.01] * 3, 0.04, *[0.01] * 3])
    found = SMALL.discretize(mixture, task)
    kept = {name: option for name, option in found.items() if option != NONE and name.startswith("normal.edge") and name.endswith("_5")}
    assert kept == {"normal.edge_0_5": "max_pool_3x3", "normal.edge_4_5": "sep_conv_3x3"}
    assert counts(found) == [2] * 8


def test_a_mixture_of_published_cells_gives_them_back() -> None:
    task, wanted = task_of(), cells(**PUBLISHED)
    mixture = {
        choice.name: torch.tensor([float(option == wanted[choice.name]) for option in choice.options]) for choice in SMALL.choices(task)
    }
    assert SMALL.discretize(mixture, task) == wanted


def test_repaired_cells_have_two_inputs_per_node_and_keep_what_fits() -> None:
    rng, choices = np.random.default_rng(0), SMALL.choices(task_of())
    dropped = set()
    for _ in range(100):
        architecture = choices.sample(rng)
        found = SMALL.repair(architecture, rng)
        choices.check(found)
        assert counts(found) == [2] * 8
        assert SMALL.repair(found, rng) == found
        crowded = [count >= INPUTS for count in counts(architecture)]
        for (kind, target), many in zip(product(KINDS, TARGETS), crowded, strict=True):
            names = [edge_name(kind, (source, target)) for source in range(target)]
            dropped |= {name for name in names if architecture[name] != NONE and found[name] == NONE}
            assert all(found[name] in ((architecture[name], NONE) if many else (architecture[name], *OPERATIONS)) for name in names)
    assert dropped == {edge_name(kind, edge) for kind in KINDS for edge in EDGES if edge[1] > INPUTS}, "no edge is preferred"
    empty = cells()
    assert SMALL.repair(empty, np.random.default_rng(7)) == SMALL.repair(empty, np.random.default_rng(7))
    assert counts(SMALL.repair(empty, rng)) == [2] * 8


# Networks


def test_a_single_path_is_the_stand_alone_network() -> None:
    task, rng = task_of((7, 5, 3), classes=3), np.random.default_rng(0)
    assert_single_paths_match(SMALL, task, [two_inputs(rng) for _ in range(5)])


def test_a_mixture_learns() -> None:
    assert_mixture_learns(SMALL, task_of(classes=3))


def test_a_training_brings_the_loss_down(digits: Dataset) -> None:
    assert_loss_falls(SMALL, two_inputs(np.random.default_rng(0)), digits, steps=12)


@pytest.mark.parametrize(("shape", "features"), [((9, 5, 1), (3, 2)), ((8, 8, 1), (2, 2)), ((3, 3, 1), (1, 1)), ((1, 1, 1), (1, 1))])
def test_every_operation_halves_the_image_rounded_up(shape: tuple[int, int, int], features: tuple[int, int]) -> None:
    task = task_of(shape)
    for operation in OPERATIONS:
        answers = {edge_name(kind, edge): operation for kind in KINDS for edge in EDGES}
        network = SMALL.build(answers, task)
        outputs: list[Tensor] = []
        network.head.register_forward_pre_hook(lambda _, inputs, outputs=outputs: outputs.append(inputs[0]))
        network(torch.randn(2, 1, *shape[:2]))
        assert outputs[0].shape == (2, 4 * 16, *features), operation


def test_halving_loses_no_pixel_on_the_diagonals() -> None:
    halving = Halving(1, 2, affine=True).eval()
    features = torch.rand(1, 1, 5, 5, requires_grad=True)
    halving(features).sum().backward()
    assert features.grad is not None
    seen = features.grad[0, 0] != 0
    assert seen.tolist() == [[(row + column) % 2 == 0 and row % 2 == column % 2 for column in range(5)] for row in range(5)]


def test_cells_without_a_use_are_not_built() -> None:
    task = task_of(classes=3)
    only_far = [("sep_conv_3x3", 0)] * 2
    architecture = cells(normal=PUBLISHED["normal"], reduction=only_far)
    network = SMALL.build(architecture, task)
    assert list(network.cells) == ["0", "2"], "the last cell reads the first, and nobody reads the one between"
    task.loss(network(inputs_of(task)), torch.arange(4) % 3, 0.0).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_cells_that_carry_nothing_train_their_head() -> None:
    task = task_of(classes=3)
    network = SMALL.build(cells(), task)
    task.loss(network(inputs_of(task)), torch.arange(4) % 3, 0.0).backward()
    assert list(network.cells) == []
    assert network.head[-1].bias.grad.abs().sum() > 0


def test_live_edges_lie_between_the_stem_and_the_last_cell() -> None:
    everything = set(EDGES)
    assert live_edges([everything] * 3) == [list(EDGES)] * 3
    assert live_edges([everything, set(), everything]) == [list(EDGES), [], [edge for edge in EDGES if edge[0] != 1]]
    assert live_edges([{(0, 2), (3, 4)}]) == [[(0, 2)]]
    assert live_edges([{(2, 3)}, everything, set()]) == [[], [], []]
    assert live_edges([everything, {(0, 2)}, {(0, 3)}]) == [list(EDGES), [], [(0, 3)]]


# Refusals


def test_an_image_that_is_one_pixel_too_early_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'darts' halves height and width twice, but images of 2 x 1 are one pixel .*: prepare images of 3 x"
    ):
        Darts().choices(task_of((2, 1, 1)))


def test_other_inputs_than_images_are_refused() -> None:
    class Row:
        input_shape = (16,)

    with pytest.raises(ValueError, match="space 'darts' wants images"):
        Darts().choices(Row())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"channels": 1}, "greater than or equal to 2"),
        ({"cells": 2}, "greater than or equal to 3"),
        ({"stem_multiplier": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Darts.model_validate(settings)
