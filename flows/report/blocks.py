"""The exported file as a graph of blocks that a person can read: a convolution with what follows it is one block.

Whatever the space is, the file holds what runs. Its nodes are folded: constants and shapes are left out, a normalisation, an activation
or a reshape joins the block before it, and the arithmetic of a group normalisation or a SiLU is called by its name. The roundings of a
quantized file are left out: it computes what its floats do, a little coarser.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import onnx

from flows.report.words import TIMES

_HIDDEN = frozenset({"Constant", "Shape", "Identity", "Cast", "Gather", "Slice", "Unsqueeze", "Squeeze", "ConstantOfShape", "Dropout"})
_JOINS = {
    "BatchNormalization": "batch norm",
    "InstanceNormalization": "norm",
    "GroupNormalization": "group norm",
    "LayerNormalization": "layer norm",
    "Relu": "ReLU",
    "Sigmoid": "sigmoid",
    "HardSwish": "hard-swish",
    "HardSigmoid": "hard-sigmoid",
    "Gelu": "GELU",
    "Swish": "SiLU",
    "Clip": "ReLU6",
    "Softmax": "softmax",
    "Flatten": "flatten",
    "Reshape": "",
    "Transpose": "",
}
"""What joins the block before it, and by which word; an empty one says nothing to a person."""
_GATES = {"Sigmoid": "SiLU", "HardSigmoid": "hard-swish"}
"""What a product of a value and this of it is called."""
_NORMS = frozenset({"BatchNormalization", "LayerNormalization"})
"""These open a block of their own where branches have met, so that a last cell with one behind it looks like those before it."""
_FIRST = " first"
"""Follows the word of what comes before the operation of a block."""
_OWN = {"Add": "+", "Concat": "concatenate", "GlobalAveragePool": "global average", "Mul": TIMES, "MatMul": "linear", "Gemm": "linear"}


@final
@dataclass(slots=True)
class Block:
    """A box of the drawing: what it is, what else happens in it, and the blocks that it reads, by their places in the list."""

    title: str
    kind: str
    detail: str = ""
    joined: list[str] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)

    @property
    def lines(self) -> tuple[str, str]:
        """What is written into the box."""
        return self.title, " · ".join(part for part in (self.detail, *self.joined) if part)


def blocks(path: Path) -> list[Block]:
    """The blocks of an ONNX file in the order in which they are computed; the first is its input.

    Raises OSError when the file cannot be read, and onnx's own error when it is no model.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    return _Folding(graph).fold()


@final
class _Folding:
    """Walks the nodes once and remembers which block makes each value.

    A word about a value that others read without it, such as the ReLU before one of several convolutions, waits for its reader.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._nodes = _without_rounding(graph)
        self._weights = {item.name: tuple(item.dims) for item in graph.initializer}
        gates = {node.output[0]: node.input[0] for node in self._nodes if node.op_type in _GATES}
        named = {node.output[0]: _GATES[node.op_type] for node in self._nodes if node.op_type in _GATES}
        products = [node for node in self._nodes if node.op_type == "Mul" and len(node.input) == 2]
        self._gated = {
            node.output[0]: (gates[one], named[one])
            for node in products
            for one, other in (node.input, node.input[::-1])
            if gates.get(one) == other
        }
        self._gates = {name for name, source in gates.items() if source in {gated for gated, _ in self._gated.values()}}
        self._readers: Counter[str] = Counter()
        for node in self._nodes:
            # Taking the shape of a value, or the gate of its own activation, is no other use of it.
            if node.op_type != "Shape" and node.output[0] not in self._gates:
                self._readers.update(set(node.input))
        self._made: dict[str, int] = {}
        self._waiting: dict[str, list[str]] = {}
        self._blocks: list[Block] = []

    def fold(self) -> list[Block]:
        for port in self._graph.input:
            if port.name not in self._weights:
                sizes = [str(size.dim_value or size.dim_param) for size in port.type.tensor_type.shape.dim]
                self._made[port.name] = self._add(Block("input", "port", f" {TIMES} ".join(sizes[1:])))
        for node in self._nodes:
            data = [name for name in node.input if name in self._made]
            if data and node.op_type != "Shape" and node.output[0] not in self._gates:
                self._take(node, data)
        return self._blocks

    def _take(self, node: Any, data: Sequence[str]) -> None:
        kind = node.op_type
        if node.output[0] in self._gated:
            self._follow(node, *self._gated[node.output[0]])
        elif kind in _HIDDEN or (kind in ("Mul", "Add", "Sub", "Div") and len(data) == 1):
            self._follow(node, data[0], "")
        elif kind in _JOINS and len(data) == 1 and not (kind in _NORMS and self._blocks[self._made[data[0]]].kind == "joint"):
            self._follow(node, data[0], _JOINS[kind])
        else:
            self._open(node, data)

    def _follow(self, node: Any, source: str, word: str) -> None:
        """The values of a node belong to the block of its source."""
        place, waiting = self._made[source], self._waiting.get(source, [])
        if word and (waiting or self._readers[source] > 1):
            waiting = [*waiting, word]
        elif word:
            self._blocks[place].joined.append(word)
        for name in node.output:
            self._made[name], self._waiting[name] = place, waiting

    def _open(self, node: Any, data: Sequence[str]) -> None:
        block = self._described(node)
        waiting = [word for name in data for word in self._waiting.get(name, [])]
        block.inputs = [self._made[name] for name in data]
        block.joined = [f"{word}{_FIRST}" for word in dict.fromkeys(waiting)]
        place = self._fused(node, block, data)
        place = self._add(block) if place is None else place
        for name in node.output:
            self._made[name] = place

    def _fused(self, node: Any, block: Block, data: Sequence[str]) -> int | None:
        """A pointwise convolution right after a depthwise one is the second half of a separable convolution."""
        place = self._made[data[0]]
        before = self._blocks[place]
        alone = self._readers[data[0]] == 1 and all(word.endswith(_FIRST) for word in before.joined)
        if node.op_type == "Conv" and block.title == f"conv 1{TIMES}1" and before.kind == "depthwise" and alone:
            before.title, before.kind, before.detail = before.title.replace("depthwise", "separable"), "convolution", block.detail
            return place
        return None

    def _described(self, node: Any) -> Block:
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        shape = next((self._weights[name] for name in node.input if name in self._weights), ())
        if node.op_type == "Conv":
            return _convolution(attributes, shape)
        if node.op_type in ("Gemm", "MatMul"):
            sizes = shape if attributes.get("transB") else shape[::-1]
            return Block("linear", "linear", f"{sizes[1]} → {sizes[0]}" if len(sizes) == 2 else "")
        if node.op_type in ("MaxPool", "AveragePool"):
            kernel = TIMES.join(map(str, attributes["kernel_shape"]))
            return Block(f"{'max' if node.op_type == 'MaxPool' else 'average'} pool {kernel}", "pool", _strides(attributes))
        if node.op_type in ("GlobalAveragePool", "ReduceMean", "GlobalMaxPool"):
            return Block("global max" if node.op_type == "GlobalMaxPool" else "global average", "pool")
        if node.op_type in _NORMS:
            return Block(_JOINS[node.op_type], "other")
        return Block(_OWN.get(node.op_type, node.op_type.lower()), "joint" if node.op_type in ("Add", "Concat", "Mul") else "other")

    def _add(self, block: Block) -> int:
        self._blocks.append(block)
        return len(self._blocks) - 1


def _without_rounding(graph: Any) -> list[Any]:
    """The nodes of a graph; of a quantized one those that compute, each reading what was rounded for it."""
    sources: dict[str, str] = {}
    found = []
    for node in graph.node:
        inputs = [sources.get(name, name) for name in node.input]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            sources[node.output[0]] = inputs[0]
            continue
        node.input[:] = inputs
        found.append(node)
    return found


def _convolution(attributes: Mapping[str, Any], shape: Sequence[int]) -> Block:
    kernel = TIMES.join(map(str, attributes.get("kernel_shape", shape[2:])))
    group, outputs = int(attributes.get("group", 1)), int(shape[0]) if shape else 0
    inputs = int(shape[1]) * group if shape else 0
    depthwise = group > 1 and group == inputs
    dilated = any(step > 1 for step in attributes.get("dilations", ()))
    name = "depthwise" if depthwise else "conv"
    parts = [f"{inputs} → {outputs}" if shape else "", f"{group} groups" if group > 1 and not depthwise else "", _strides(attributes)]
    title = f"{name} {kernel}{' dilated' if dilated else ''}"
    return Block(title, "depthwise" if depthwise else "convolution", ", ".join(part for part in parts if part))


def _strides(attributes: Mapping[str, Any]) -> str:
    stride = max(attributes.get("strides", [1]))
    return f"stride {stride}" if stride > 1 else ""


def segments(found: Sequence[Block]) -> Iterator[list[int]]:
    """Cut the blocks after each one through whose value everything later is computed."""
    last = list(range(len(found)))
    for reader, block in enumerate(found):
        for place in block.inputs:
            last[place] = reader
    part: list[int] = []
    needed = 0
    for place in range(len(found)):
        part.append(place)
        if needed <= place:
            yield part
            part = []
        needed = max(needed, last[place])
    if part:
        yield part


def repeats(signatures: Sequence[Any], longest: int = 16) -> list[tuple[int, int, int]]:
    """Fold a sequence into (start, length, times): what is repeated right after itself is told once, the most that can be saved first."""
    folded, at = [], 0
    while at < len(signatures):
        best = (0, 1, 1)
        for length in range(1, min(longest, (len(signatures) - at) // 2) + 1):
            times = 1
            while signatures[at : at + length] == signatures[at + times * length : at + (times + 1) * length]:
                times += 1
            best = max(best, ((times - 1) * length, length, times), key=lambda row: (row[0], -row[1]))
        folded.append((at, best[1], best[2]))
        at += best[1] * best[2]
    return folded
