import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from export.machine import Target
from export.peak_memory import peak_memory
from export.session import MeasureError


def relu(channels: int, size: int) -> bytes:
    """One operator on images of float32."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, size, size]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    return content


def test_memory_grows_with_what_has_to_be_held() -> None:
    """An image of 64 x 128 x 128 floats is 4 MB, and so is its result."""
    small, large = (peak_memory(relu(64, 128), Target(batch)) for batch in (1, 8))
    if small is None or large is None:
        pytest.skip("this system keeps no high-water mark")
    assert small > 2 * 4 * 2**20
    assert large - small > 2 * 7 * 4 * 2**20
    assert large < 500 * 2**20


def test_a_file_that_cannot_run_is_an_error(exported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MeasureError, match=r"memory could not be measured \(.*cannot load .*model.onnx .*\): see that"):
        peak_memory(b"no model", Target())

    def slow(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", slow)
    with pytest.raises(MeasureError, match=r"did not run 3 times within 120 s: allow more"):
        peak_memory(exported(), Target())
