"""What quantization asks of a graph: which nodes stay in floats, outputs that are not rounded, a file that looks like the original."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def kept_in_floats(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes before the first weighted operator of each path, and of those that follow an output of the graph."""
    weighted: set[str] = set()
    outputs = {port.name for port in model.graph.output}
    after: set[str] = set(outputs)
    kept = set()
    for node in model.graph.node:  # in topological order, as ONNX demands
        if node.op_type in WEIGHTED or weighted & set(node.input):
            weighted |= set(node.output)
        else:
            kept.add(node.name)
        if after & set(node.input):
            after |= set(node.output)
            kept.add(node.name)
    return kept


def free_outputs(model: onnx.ModelProto) -> None:
    """Take away the rounding of the graph's outputs: with 8 bits, close classes would tie."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for port in model.graph.output:
        dequantize = makers.get(port.name)
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize_node = makers[dequantize.input[0]]
        source = quantize_node.input[0]
        for node in (quantize_node, dequantize):
            model.graph.node.remove(node)
        for node in model.graph.node:
            for field in (node.input, node.output):
                for index, name in enumerate(field):
                    if name == source:
                        field[index] = port.name


def normalize(model: onnx.ModelProto, original: onnx.ModelProto, words: Mapping[str, Any]) -> None:
    """Interface, producer and metadata of the original, which the tools above replace by their own, and what was done here."""
    used = {node.domain or "" for node in model.graph.node}
    imports = [entry for entry in model.opset_import if (entry.domain if entry.domain != "ai.onnx" else "") in used]
    kept_imports = [(entry.domain, entry.version) for entry in imports]
    del model.opset_import[:], model.metadata_props[:], model.graph.value_info[:]
    for domain, version in sorted(kept_imports):
        model.opset_import.add(domain=domain, version=version)
    for name in ("producer_name", "producer_version"):
        setattr(model, name, getattr(original, name))
    for message in (model, model.graph):
        message.ClearField("doc_string")
    model.graph.name = original.graph.name
    for ports, wanted in ((model.graph.input, original.graph.input), (model.graph.output, original.graph.output)):
        del ports[:]
        ports.extend(wanted)
    metadata = {entry.key: entry.value for entry in original.metadata_props} | {"quantized": json.dumps(words, sort_keys=True)}
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])
    needed = {name for node in model.graph.node for name in node.input}
    ordered = sorted((tensor for tensor in model.graph.initializer if tensor.name in needed), key=lambda tensor: tensor.name)
    del model.graph.initializer[:]
    model.graph.initializer.extend(ordered)


def counts(model: onnx.ModelProto, operators: Sequence[str], kept: set[str]) -> tuple[dict[str, int], dict[str, int]]:
    """How many operators of each type compute on 8 bits, and how many on floats, the mapping of the images left out."""
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    done, left = Counter[str](), Counter[str]()
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or (node.name in kept and node.op_type != "Softmax"):
            continue
        eight = node.op_type in operators and node.name not in kept and node.input[0] in dequantized
        (done if eight else left)[node.op_type] += 1
    return dict(sorted(done.items())), dict(sorted(left.items()))
