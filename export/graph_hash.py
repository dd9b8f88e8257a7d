"""One number for the structure of an ONNX file, whatever its names and weights: it links the file that ships to the one that was timed.

Kept: operators with their attributes, who feeds whom and where, shapes and dtypes of weights and inputs, and the values of
integer (int64) and boolean constants, which are shapes, axes and indices. Left out: names, notes, versions of the writer, the
order of nodes, values of floats and of quantized weights, and which equal weights the exporter stored once.

The hash of a value is that of the operator and its inputs, as in a Merkle tree; then every node's hash is refined by who uses
it, round after round (Weisfeiler and Lehman 1968), so that two equal branches differ from one branch that is used twice.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

ROUNDS = 3
VALUED = (TensorProto.INT64, TensorProto.BOOL)
TRANSPARENT = ("Identity",)  # exporters leave some, onnxruntime removes all


def graph_hash(model: Path | bytes) -> str:
    """64 hexadecimal digits for the structure of an ONNX file, given by its path or its bytes.

    Equal for two exports of one architecture with other weights, as long as the exporter translated both alike. Raises OSError when
    there is no such file, google.protobuf's DecodeError when it is none of ONNX.
    """
    proto = onnx.load(model, load_external_data=False) if isinstance(model, Path) else onnx.load_from_string(model)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    versions = sorted((entry.domain or "ai.onnx", entry.version) for entry in proto.opset_import)
    return _digest(("model", versions, _of_graph(proto.graph, {})))


def _of_graph(graph: GraphProto, outside: Mapping[str, str]) -> str:
    """outside: hashes of values that a graph inside a node may use from around it."""
    values = {"": "absent", **outside}
    for index, port in enumerate(graph.input):
        values[port.name] = _digest(("input", index, _type(port)))
    # Older files list weights among the inputs too.
    values |= {tensor.name: _of_tensor(tensor) for tensor in graph.initializer}
    values |= {sparse.values.name: _digest(("sparse", list(sparse.dims))) for sparse in graph.sparse_initializer}
    nodes: list[tuple[NodeProto, str]] = []
    sources: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in TRANSPARENT and not node.domain:
            values[node.output[0]], sources[node.output[0]] = values[node.input[0]], sources.get(node.input[0], node.input[0])
        elif node.op_type == "Constant" and not node.domain:
            values[node.output[0]] = _of_constant(node.attribute[0])
        else:
            own = _digest((*_kind(node, values), [values[name] for name in node.input]))
            values |= {name: _digest((own, index)) for index, name in enumerate(node.output) if name}
            nodes.append((node, own))
    ends: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, port in enumerate(graph.output):
        ends[sources.get(port.name, port.name)].append((index, port.type.tensor_type.elem_type))
    return _digest(([values[port.name] for port in graph.output], sorted(_refined(nodes, sources, ends))))


def _refined(nodes: list[tuple[NodeProto, str]], sources: Mapping[str, str], ends: Mapping[str, list[tuple[int, int]]]) -> list[str]:
    """A hash per node that knows its uses as well."""
    users: dict[str, list[tuple[int, int]]] = defaultdict(list)
    makers = {name: number for number, (node, _) in enumerate(nodes) for name in node.output}
    for number, (node, _) in enumerate(nodes):
        for place, name in enumerate(node.input):
            users[sources.get(name, name)].append((number, place))
    found = [own for _, own in nodes]
    for _ in range(ROUNDS):
        found = [
            _digest(
                (
                    found[number],
                    [sorted((found[user], place) for user, place in users[name]) for name in node.output],
                    [ends.get(name) for name in node.output],
                    [found[makers[name]] if (name := sources.get(given, given)) in makers else None for given in node.input],
                )
            )
            for number, (node, _) in enumerate(nodes)
        ]
    return found


def _kind(node: NodeProto, values: Mapping[str, str]) -> tuple[object, ...]:
    """What a node does, without what it does it to."""
    attributes = sorted((entry.name, _of_attribute(entry, values)) for entry in node.attribute)
    return (node.domain or "ai.onnx", node.op_type, node.overload, len(node.output), attributes)


def _of_attribute(entry: AttributeProto, values: Mapping[str, str]) -> object:
    value: Any = onnx.helper.get_attribute_value(entry)
    if entry.type == AttributeProto.GRAPH:
        return _of_graph(value, values)
    if entry.type == AttributeProto.GRAPHS:
        return [_of_graph(part, values) for part in value]
    if entry.type == AttributeProto.TENSOR:
        return _of_tensor(value)
    return list(value) if isinstance(value, Iterable) and not isinstance(value, bytes | str) else value


def _of_constant(entry: AttributeProto) -> str:
    """A constant hashes as the initializer it could have been: exporters choose either."""
    value: Any = onnx.helper.get_attribute_value(entry)
    if entry.type == AttributeProto.TENSOR:
        return _of_tensor(value)
    if entry.type in (AttributeProto.INT, AttributeProto.INTS):
        array = [value] if entry.type == AttributeProto.INT else list(value)
        return _of_tensor(onnx.helper.make_tensor("", TensorProto.INT64, [] if entry.type == AttributeProto.INT else [len(array)], array))
    return _digest(("constant", entry.name, len(value) if entry.name in ("value_floats", "value_strings") else None))


def _of_tensor(tensor: TensorProto) -> str:
    if tensor.data_type in VALUED and tensor.data_location != TensorProto.EXTERNAL:
        return _digest(("constant", tensor.data_type, list(tensor.dims), numpy_helper.to_array(tensor).tolist()))
    return _digest(("weight", tensor.data_type, list(tensor.dims)))


def _type(port: onnx.ValueInfoProto) -> tuple[object, ...]:
    """dtype and shape; an open size is the same as any other open size."""
    kind = port.type.tensor_type
    return (kind.elem_type, [part.dim_value if part.HasField("dim_value") else None for part in kind.shape.dim])


def _digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()
