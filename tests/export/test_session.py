import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.machine import Target
from export.sentinel import sentinel
from export.session import MeasureError, feed, open_session, try_once

Exported = Callable[..., Path]


def model(kind: int, shape: list[int | str | None], operator: str = "Identity", output: list[int | str | None] | None = None) -> bytes:
    """One operator on one input."""
    ends = [helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, output)]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", ends[:1], ends[1:])
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    return content


def test_options_are_the_targets(exported: Exported) -> None:
    options = open_session(exported(), Target(threads=2)).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.execution_mode.name == "ORT_SEQUENTIAL"


@pytest.mark.parametrize(
    ("kind", "dtype", "low", "high"),
    [(TensorProto.UINT8, np.uint8, 0, 255), (TensorProto.INT64, np.int64, 0, 1), (TensorProto.FLOAT, np.float32, -6, 6)],
)
def test_random_inputs_fit_the_file_and_are_always_the_same(kind: int, dtype: type[np.generic], low: int, high: int) -> None:
    session = open_session(model(kind, ["batch", 3, 4]), Target())
    batch = feed(session, 5)
    assert (list(batch), batch["x"].shape, batch["x"].dtype) == (["x"], (5, 3, 4), dtype)
    assert low <= batch["x"].min() < batch["x"].max() <= high
    assert np.array_equal(batch["x"], feed(session, 5)["x"])
    try_once(session, batch)


def test_examples_fill_the_batch(exported: Exported) -> None:
    images = np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3)
    session = open_session(exported(), Target())
    assert np.array_equal(feed(session, 7, {"images": images})["images"], images[[0, 1, 2, 0, 1, 2, 0]])
    assert np.array_equal(feed(session, 2, {"images": images})["images"], images[:2])


@pytest.mark.parametrize(
    ("kind", "shape", "inputs", "sentence"),
    [
        (
            TensorProto.FLOAT,
            ["n", "height"],
            None,
            "input x is tensor(float) of shape ['n', 'height'], which says too little: give examples",
        ),
        (TensorProto.STRING, ["n", 2], None, "input x is tensor(string) of shape ['n', 2], which says too little"),
        (TensorProto.FLOAT, [4, 2], None, "the file takes batches of 4, the target asks for 3"),
        (TensorProto.FLOAT, ["n", 2], {"z": np.zeros((1, 2))}, "input x has no example among z: give one"),
        (TensorProto.FLOAT, ["n", 2], {"x": np.zeros((0, 2))}, "input x has no example"),
    ],
)
def test_inputs_that_cannot_be_had_are_refused(
    kind: int, shape: list[int | str | None], inputs: dict[str, object] | None, sentence: str
) -> None:
    session = open_session(model(kind, shape), Target())
    with pytest.raises(MeasureError, match=re.escape(sentence)):
        feed(session, 3, inputs)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_loaded_says_why(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"cannot load the file of 3 bytes \(.*\): export it again"):
        open_session(b"abc", Target())
    with pytest.raises(FileNotFoundError, match=r"no ONNX file at .*absent.onnx: export it first"):
        open_session(tmp_path / "absent.onnx", Target())
    with pytest.raises(MeasureError, match=r"provider Abacus is not in this onnxruntime, which has .*CPUExecutionProvider"):
        open_session(exported(), Target(provider="Abacus"))


def test_a_file_that_loads_and_cannot_run_says_on_what(exported: Exported) -> None:
    session = open_session(exported(), Target())
    with pytest.raises(MeasureError, match=r"cannot run the file on images float64 \[2, 8, 8, 3\] \(.*\): give other inputs"):
        try_once(session, {"images": np.zeros((2, 8, 8, 3))})


@pytest.mark.parametrize(("setting", "value"), [("batch_size", 0), ("threads", -1)])
def test_targets_have_sizes(setting: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{setting} of the target is {value}, but must be at least 1"):
        Target(**{setting: value})
    with pytest.raises(ValueError, match="no provider"):
        Target(provider="")


def test_the_sentinel_is_one_file_for_all() -> None:
    assert sentinel() == sentinel()
    onnx.checker.check_model(sentinel(), full_check=True)
    session = open_session(sentinel(), Target())
    (answer,) = session.run(None, feed(session, 1))
    assert np.isfinite(answer).all()
    assert answer.any()
