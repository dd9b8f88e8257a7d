"""The model repository is what Triton's own message can hold, and says what the file says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from sample_classifier import METADATA
from triton_schema import TYPES, parse

from export import triton
from export.bundle import manifest_of

Exported = Callable[..., Path]
CLASSES = json.loads(METADATA["classes"])


def manifest(inputs: list[Any], outputs: list[Any], dtype: str = "float32") -> dict[str, Any]:
    return {
        "inputs": [{"name": "images", "dtype": dtype, "shape": inputs}],
        "outputs": [{"name": "scores", "dtype": "float32", "shape": outputs}],
    }


def config(of: dict[str, Any], classes: list[str] | None = None) -> Any:
    return parse(triton.repository(b"", of, classes or [])["model/config.pbtxt"].decode())


def test_the_configuration_says_what_the_file_takes_and_gives(exported: Exported) -> None:
    made = triton.repository(b"onnx", manifest_of(exported()), CLASSES, name="birds", largest_batch=16, delay=250)
    assert sorted(made) == ["birds/1/model.onnx", "birds/config.pbtxt", "birds/labels.txt"]
    assert made["birds/1/model.onnx"] == b"onnx"
    assert made["birds/labels.txt"].decode().splitlines() == CLASSES
    read = parse(made["birds/config.pbtxt"].decode())
    assert (read.name, read.backend, read.max_batch_size) == ("birds", "onnxruntime", 16)
    assert read.dynamic_batching.max_queue_delay_microseconds == 250
    [images] = read.input
    assert (images.name, TYPES[images.data_type], list(images.dims), images.label_filename) == ("images", "UINT8", [8, 8, 3], "")
    found = [(port.name, TYPES[port.data_type], list(port.dims), port.label_filename) for port in read.output]
    assert found == [("logits", "FP32", [4], "labels.txt"), ("probabilities", "FP32", [4], "labels.txt")]


@pytest.mark.parametrize(("inputs", "outputs"), [([1, 8, 3], ["batch", 4]), (["batch", 8, 3], [1, 4]), ([1, 8, 3], []), ([2, 8, 3], [2])])
def test_no_batching_where_a_batch_is_fixed(inputs: list[Any], outputs: list[Any]) -> None:
    read = config(manifest(inputs, outputs))
    assert read.max_batch_size == 0
    assert not read.HasField("dynamic_batching")
    whole = [-1 if isinstance(size, str) else size for size in inputs]
    assert list(read.input[0].dims) == whole
    assert len(read.output[0].dims) >= 1


def test_one_number_per_example_is_reshaped_and_open_sizes_stay_open() -> None:
    read = config(manifest(["batch", "height", 3], ["batch"]))
    assert list(read.input[0].dims) == [-1, 3]
    assert list(read.output[0].dims) == [1]
    assert read.output[0].HasField("reshape")
    assert list(read.output[0].reshape.shape) == []
    assert read.max_batch_size == 64


def test_names_are_quoted_and_labels_stay_on_their_line() -> None:
    odd = manifest(["batch", 3], ["batch", 2])
    odd["inputs"][0]["name"] = 'a "b" \\c'
    assert config(odd).input[0].name == 'a "b" \\c'
    assert triton.labels(["two\nlines", "ß"]) == "two lines\nß\n"


def test_a_type_without_a_word_is_refused() -> None:
    with pytest.raises(triton.TritonError, match="images is complex64, but Triton takes bool, uint8"):
        config(manifest(["batch", 3], ["batch", 2], "complex64"))


def test_the_schema_refuses_what_triton_would() -> None:
    for wrong in ('nmae: "x"', "max_batch_size: many", "input [ { data_type: TYPE_FLOAT } ]"):
        with pytest.raises(text_format.ParseError):
            parse(wrong)
