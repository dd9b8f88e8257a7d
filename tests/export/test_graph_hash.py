from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper
from sample_classifier import OUTPUTS, classifier, example
from torch import nn

from export.graph_hash import graph_hash
from export.to_onnx import EXPORTERS, to_onnx
from export.typical import with_typical_weights
from nas.load import load, names
from nas.spaces.base import SearchSpace
from nas.testing.images import task_of

SMALL: dict[str, dict[str, Any]] = {
    "cell": {"widths": (4, 8), "cells": 1},
    "chain": {"widths": ((4, 6), (6, 8))},
}
both = pytest.mark.parametrize("exporter", EXPORTERS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def exported(module: nn.Module, folder: Path, exporter: str, names: tuple[str, ...] = OUTPUTS, images: torch.Tensor | None = None) -> str:
    to_onnx(module, example() if images is None else images, folder / "model.onnx", outputs=names, metadata={}, exporter=exporter)
    return graph_hash(folder / "model.onnx")


@both
def test_weights_and_names_are_nothing(exporter: str, tmp_path: Path) -> None:
    one, two = (exported(with_typical_weights(classifier(seed), seed), tmp_path, exporter) for seed in (0, 1))
    assert one == two == exported(with_typical_weights(classifier(2)), tmp_path, exporter, ("p", "q"))


@pytest.mark.parametrize(
    ("layer", "exporter"),
    [
        (nn.ReLU6(), "torchscript"),
        (nn.MaxPool2d(3, 1, 1), "dynamo"),
        (nn.MaxPool2d(3, 1, 1), "torchscript"),
        (nn.AvgPool2d(3, 1, 1), "torchscript"),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), "torchscript"),
    ],
)
def test_another_layer_is_another_structure(layer: nn.Module, exporter: str, tmp_path: Path) -> None:
    changed = with_typical_weights(classifier())
    plain = exported(changed, tmp_path, exporter)
    changed.body[2] = layer  # type: ignore[index, operator]
    assert exported(changed, tmp_path, exporter) != plain


def test_widths_count(tmp_path: Path) -> None:
    wide = classifier()
    wide.body[0], wide.body[1], wide.body[6] = nn.Conv2d(3, 9, 3, padding=1), nn.BatchNorm2d(9), nn.Linear(36, 4)
    assert exported(with_typical_weights(wide), tmp_path, "torchscript") != exported(
        with_typical_weights(classifier()), tmp_path, "torchscript"
    )


@pytest.mark.parametrize("name", names("spaces"))
def test_every_space_has_one_hash_per_structure(name: str, tmp_path: Path) -> None:
    """Two sets of weights of one architecture agree; architectures that are drawn and differ by their canonical form do not."""
    space: SearchSpace = load("spaces", name)(**SMALL.get(name, {}))
    task = task_of(classes=3)
    hashes: dict[str, str] = {}
    for seed in (0, 1):
        architecture = space.choices(task).sample(np.random.default_rng(seed))
        network = space.build(architecture, task)
        found = [
            exported(task.deployable(with_typical_weights(network, weights)), tmp_path, "torchscript", task.output_names, task.example(2))
            for weights in range(2 if seed == 0 else 1)
        ]
        assert len(set(found)) == 1, architecture
        hashes[space.canonical(architecture, task)] = found[0]
    assert len(set(hashes.values())) == len(hashes) == 2


def graph(nodes: list[NodeProto], constants: dict[str, np.ndarray[Any, Any]] | None = None, opset: int = 18) -> bytes:
    """From x to y, both float; constants become initializers."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    made = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", opset)])
    content: bytes = made.SerializeToString()
    return content


def node(kind: str, *names: str, **attributes: object) -> NodeProto:
    """The last name is the output."""
    return helper.make_node(kind, names[:-1], names[-1:], **attributes)


BRANCHES = [node("Relu", "x", "a"), node("Relu", "x", "b"), node("Add", "a", "b", "y")]
WHOLE = [node("Relu", "x", "a"), node("Relu", "x", "b"), node("Exp", "x", "c"), node("Add", "a", "c", "d")]
SHAPE, OTHER_SHAPE = {"s": np.array([-1, 4])}, {"s": np.array([-1, 2])}
FOUR, ONE, TWICE = ({"w": np.ones(4, np.float32)}, {"w": np.ones(1, np.float32)}, {name: np.ones(4, np.float32) for name in "vw"})
RESHAPE = [node("Reshape", "x", "s", "y")]
PASSED = [node("Identity", "x", "a"), node("Relu", "a", "b"), node("Identity", "b", "y")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(graph(BRANCHES), graph([node("Relu", "x", "a"), node("Add", "a", "a", "y")]), id="one branch used twice"),
        pytest.param(graph([node("Sub", "x", "w", "y")], FOUR), graph([node("Sub", "w", "x", "y")], FOUR), id="order"),
        pytest.param(graph([node("Add", "x", "w", "y")], FOUR), graph([node("Add", "x", "w", "y")], ONE), id="shape of a weight"),
        pytest.param(graph(RESHAPE, SHAPE), graph(RESHAPE, OTHER_SHAPE), id="shape by value"),
        pytest.param(graph([node("Elu", "x", "y", alpha=0.5)]), graph([node("Elu", "x", "y", alpha=0.25)]), id="attribute"),
        pytest.param(graph([node("Relu", "x", "y")]), graph([node("Relu", "x", "y")], opset=17), id="opset"),
        pytest.param(graph([node("Relu", "x", "y")]), graph([node("Relu", "x", "y"), WHOLE[2]]), id="a result that nobody uses"),
        pytest.param(
            graph([*WHOLE, node("Add", "b", "c", "e"), node("Mul", "d", "e", "y")]),
            graph([*WHOLE, node("Add", "a", "c", "e"), node("Mul", "d", "e", "y")]),
            id="who uses which of two equal branches",
        ),
    ],
)
def test_other_structures_differ(one: bytes, other: bytes) -> None:
    assert graph_hash(one) != graph_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(graph(BRANCHES), graph([node("Relu", "x", "p"), node("Relu", "x", "q"), node("Add", "q", "p", "y")]), id="names"),
        pytest.param(graph(BRANCHES), graph([BRANCHES[1], BRANCHES[0], BRANCHES[2]]), id="order of independent nodes"),
        pytest.param(graph([node("Relu", "x", "y")]), graph(PASSED), id="identities"),
        pytest.param(
            graph(RESHAPE, SHAPE),
            graph([helper.make_node("Constant", [], ["s"], value_ints=[-1, 4]), *RESHAPE]),
            id="constant or initializer",
        ),
        pytest.param(
            graph([node("Add", "x", "v", "a"), node("Add", "a", "w", "y")], TWICE),
            graph([node("Add", "x", "w", "a"), node("Add", "a", "w", "y")], FOUR),
            id="equal weights stored once",
        ),
    ],
)
def test_what_is_no_structure_is_nothing(one: bytes, other: bytes) -> None:
    assert graph_hash(one) == graph_hash(other)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["Add", "Mul"])), min_size=1, max_size=12), st.randoms())
def test_renaming_and_reordering_change_nothing_and_one_other_operator_does(steps: list[tuple[int, int, str]], random: Any) -> None:
    def build(renamed: Callable[[int], str], kinds: list[str]) -> list[NodeProto]:
        values, nodes = ["x"], []
        for number, ((left, right, _), kind) in enumerate(zip(steps, kinds, strict=True)):
            values.append("y" if number == len(steps) - 1 else renamed(number))
            nodes.append(node(kind, values[left % (number + 1)], values[right % (number + 1)], values[-1]))
        return nodes

    kinds = [kind for *_, kind in steps]
    plain = build(lambda number: f"v{number}", kinds)
    moved = build(lambda number: f"other_{100 - number}", kinds)
    ready, waiting = {"x"}, list(moved)
    ordered = []
    while waiting:
        chosen = random.choice([item for item in waiting if set(item.input) <= ready])
        waiting.remove(chosen)
        ordered.append(chosen)
        ready |= set(chosen.output)
    assert graph_hash(graph(plain)) == graph_hash(graph(ordered))
    changed = random.randrange(len(kinds))
    others = [("Mul" if kind == "Add" else "Add") if number == changed else kind for number, kind in enumerate(kinds)]
    if kinds.count("Add") != others.count("Add"):
        assert graph_hash(graph(plain)) != graph_hash(graph(build(lambda number: f"v{number}", others)))


def test_graphs_inside_nodes_count() -> None:
    def conditional(inner: str) -> bytes:
        branches = {
            f"{side}_branch": helper.make_graph(
                [node(inner if side == "then" else "Exp", "x", "z")],
                side,
                [],
                [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
            )
            for side in ("then", "else")
        }
        return graph([node("If", "c", "y", **branches)], {"c": np.array(True)})

    assert graph_hash(conditional("Relu")) == graph_hash(conditional("Relu")) != graph_hash(conditional("Sigmoid"))


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        graph_hash(tmp_path / "absent.onnx")
    with pytest.raises(Exception, match=r"(?i)pars|decod"):
        graph_hash(b"no model")
    assert onnx.checker.check_model(graph(BRANCHES)) is None


def test_typical_weights_are_a_copy_that_training_could_have_left() -> None:
    module = classifier()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    moved = with_typical_weights(module).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(
        not torch.equal(value, before[name]) for name, value in moved.items() if name not in ("pixel_mean", "body.1.num_batches_tracked")
    )
    assert torch.equal(moved["pixel_mean"], before["pixel_mean"])
    assert (moved["body.1.running_var"] >= 1).all()
    assert all(torch.equal(value, moved[name]) for name, value in with_typical_weights(module).state_dict().items())
