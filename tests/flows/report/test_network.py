"""The drawing of a network: nodes of an ONNX file become blocks, what repeats is drawn once, and boxes have their own places."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flows.report.blocks import Block, blocks, repeats, segments
from flows.report.layout import BOX_HEIGHT, BOX_WIDTH, layout
from flows.report.network import folded, svg
from flows.report.words import TIMES

SHAPES = {
    "conv": (8, 8, 3, 3),
    "wide": (16, 8, 3, 3),
    "deep": (8, 1, 3, 3),
    "point": (8, 8, 1, 1),
    "scale": (8, 1, 1),
    "vector": (8,),
    "head": (8, 10),
}


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """A function that reads the blocks of nodes: (type, inputs, output, attributes)."""

    def read(*nodes: tuple[Any, ...]) -> list[Block]:
        made = [helper.make_node(kind, inputs.split(), [output], **dict(*rest)) for kind, inputs, output, *rest in nodes]
        weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in SHAPES.items()]
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8, 4, 4]) for name in ("x", nodes[-1][2])]
        onnx.save(helper.make_model(helper.make_graph(made, "net", ports[:1], ports[1:], weights)), str(tmp_path / "model.onnx"))
        return blocks(tmp_path / "model.onnx")

    return read


def told(found: Sequence[Block]) -> list[tuple[str, str, list[int]]]:
    return [(*block.lines, block.inputs) for block in found[1:]]


def test_what_follows_a_convolution_joins_it(saved: Any) -> None:
    found = saved(
        ("Conv", "x wide", "a", {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ("BatchNormalization", "a vector vector vector vector", "b"),
        ("Relu", "b", "c"),
    )
    assert found[0].lines == ("input", f"8 {TIMES} 4 {TIMES} 4")
    assert told(found) == [(f"conv 3{TIMES}3", "8 → 16, stride 2 · batch norm · ReLU", [0])]


def test_arithmetic_is_called_by_its_name(saved: Any) -> None:
    found = saved(
        ("Conv", "x conv", "a", {"kernel_shape": [3, 3]}),
        ("Reshape", "a vector", "b"),
        ("InstanceNormalization", "b vector vector", "c"),
        ("Shape", "a", "size"),
        ("Reshape", "c size", "d"),
        ("Mul", "d scale", "e"),
        ("Add", "e scale", "f"),
        ("Sigmoid", "f", "g"),
        ("Mul", "f g", "h"),
    )
    assert told(found) == [(f"conv 3{TIMES}3", "8 → 8 · norm · SiLU", [0])]


def test_a_gate_is_no_activation_of_its_own_input(saved: Any) -> None:
    found = saved(("Conv", "x conv", "a", {"kernel_shape": [3, 3]}), ("Sigmoid", "a", "b"), ("Mul", "x b", "c"))
    assert told(found) == [(f"conv 3{TIMES}3", "8 → 8 · sigmoid", [0]), (TIMES, "", [0, 1])]


def test_an_activation_that_one_of_several_readers_sees_belongs_to_that_reader(saved: Any) -> None:
    found = saved(
        ("Relu", "x", "a"),
        ("Conv", "a conv", "b", {"kernel_shape": [3, 3]}),
        ("AveragePool", "x", "c", {"kernel_shape": [3, 3], "strides": [1, 1]}),
        ("Add", "b c", "d"),
        ("BatchNormalization", "d vector vector vector vector", "e"),
    )
    assert told(found) == [
        (f"conv 3{TIMES}3", "8 → 8 · ReLU first", [0]),
        (f"average pool 3{TIMES}3", "", [0]),
        ("+", "", [1, 2]),
        ("batch norm", "", [3]),
    ]


def test_a_separable_convolution_is_one_block(saved: Any) -> None:
    found = saved(
        ("Relu", "x", "r"),
        ("Conv", "r deep", "a", {"kernel_shape": [3, 3], "group": 8, "dilations": [2, 2]}),
        ("Conv", "a point", "b", {"kernel_shape": [1, 1]}),
        ("GlobalAveragePool", "b", "c"),
        ("Flatten", "c", "d"),
        ("MatMul", "d head", "e"),
        ("Softmax", "e", "f"),
        ("Sub", "x r", "g"),
    )
    assert told(found) == [
        (f"separable 3{TIMES}3 dilated", "8 → 8 · ReLU first", [0]),
        ("global average", "flatten", [1]),
        ("linear", "8 → 10 · softmax", [2]),
        ("sub", "ReLU first", [0, 0]),
    ]


def residual(places: int, before: int) -> list[Block]:
    """Blocks of `places` residual parts after a block: each a convolution and a sum."""
    found: list[Block] = []
    for _ in range(places):
        last = before + len(found)
        found += [Block("conv", "convolution", inputs=[last]), Block("+", "joint", inputs=[last, last + 1])]
    return found


def test_a_graph_is_cut_where_one_value_crosses() -> None:
    found = [Block("input", "port"), *residual(2, 0), Block("linear", "linear", inputs=[4])]
    assert list(segments(found)) == [[0], [1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),
        ("abbbc", [(0, 1, 1), (1, 1, 3), (4, 1, 1)]),
        ("xababab", [(0, 1, 1), (1, 2, 3)]),
        ("", []),
    ],
)
def test_repetitions_are_told_once(text: str, expected: list[tuple[int, int, int]]) -> None:
    assert repeats(list(text)) == expected


def test_equal_parts_are_drawn_once_and_what_follows_hangs_from_them() -> None:
    found = [Block("input", "port"), *residual(5, 0), Block("linear", "linear", inputs=[10])]
    drawing = folded(found)
    assert [block.title for block in drawing.shown] == ["input", "conv", "+", "linear"]
    assert [block.inputs for block in drawing.shown] == [[], [0], [0, 1], [2]]
    assert drawing.groups == [(1, 2, 5)]
    assert drawing.whole == 12
    assert f"{TIMES} 5</text>" in svg(drawing)


def test_boxes_do_not_overlap_and_edges_lead_down_beside_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        inputs = [[], *(sorted(rng.choice(number, min(number, 3), replace=False).tolist()) for number in range(1, 14))]
        placed = layout(inputs)
        for one, other in combinations(placed.boxes, 2):
            assert abs(one.x - other.x) >= BOX_WIDTH or abs(one.y - other.y) >= BOX_HEIGHT
        assert len(placed.edges) == sum(map(len, inputs))
        for above, below, bends in placed.edges:
            ways = [above, *bends, below]
            assert [place.layer for place in ways] == list(range(above.layer, below.layer + 1))
            for bend in bends:
                assert all(abs(bend.x - box.x) > BOX_WIDTH / 2 for box in placed.boxes if box.layer == bend.layer)
        assert all(BOX_WIDTH / 2 <= box.x <= placed.width - BOX_WIDTH / 2 and box.y + BOX_HEIGHT <= placed.height for box in placed.boxes)


def test_a_quantized_file_is_drawn_as_its_floats(saved: Any) -> None:
    plain = saved(("Conv", "x conv", "a"), ("HardSigmoid", "a", "g"), ("Mul", "a g", "m"), ("Conv", "m point", "y"))
    rounded = saved(
        *(("QuantizeLinear", "x scale", "xq"), ("DequantizeLinear", "xq scale", "xd"), ("DequantizeLinear", "conv scale", "wd")),
        *(("Conv", "xd wd", "a"), ("QuantizeLinear", "a scale", "aq"), ("DequantizeLinear", "aq scale", "ad")),
        *(("HardSigmoid", "ad", "g"), ("QuantizeLinear", "g scale", "gq"), ("DequantizeLinear", "gq scale", "gd")),
        *(("Mul", "ad gd", "m"), ("DequantizeLinear", "point scale", "pd"), ("Conv", "m pd", "y")),
    )
    assert [block.lines for block in plain] == [
        ("input", f"8 {TIMES} 4 {TIMES} 4"),
        (f"conv 3{TIMES}3", "8 → 8 · hard-swish"),
        (f"conv 1{TIMES}1", "8 → 8"),
    ]
    assert rounded == plain
