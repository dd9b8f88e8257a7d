"""A small network of fixed work, timed beside every model: when it slows down, the machine did, not the model."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

LAYERS, CHANNELS, SIZE = 4, 24, 32
SHAPE = (1, CHANNELS, SIZE, SIZE)


def sentinel() -> bytes:
    """The network as an ONNX file: 3 x 3 convolutions and ReLUs on one float32 image, about half a millisecond of one core.

    The same bytes everywhere, for one version of onnx; a latency in units of it can be compared between states of a machine.
    """
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(LAYERS):
        kernel = rng.standard_normal((CHANNELS, CHANNELS, 3, 3), dtype=np.float32) / np.float32(3 * CHANNELS**0.5)
        weights.append(numpy_helper.from_array(kernel, f"weight_{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"weight_{layer}"], [f"sum_{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"sum_{layer}"], [f"value_{layer}"]))
        value = f"value_{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", value)]
    graph = helper.make_graph(nodes, "sentinel", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="nasflow.export")
    content: bytes = model.SerializeToString(deterministic=True)
    return content
