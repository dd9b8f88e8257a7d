"""Only a whole bundle is served, and what it takes and gives is said in the protocol's words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from served import IMAGES, bundle, lookup

from export import files
from export.serving.errors import ServingError
from export.serving.model import Model, Port, load

Exported = Callable[..., Path]


def test_what_the_model_takes_and_gives(classifier: Model, table: Model) -> None:
    assert classifier.inputs == (Port("images", "UINT8", np.dtype(np.uint8), (-1, 8, 8, 3)),)
    assert [(port.name, port.datatype, port.shape) for port in classifier.outputs] == [
        ("logits", "FP32", (-1, 4)),
        ("probabilities", "FP32", (-1, 4)),
    ]
    assert classifier.batched
    assert classifier.classes == ("bird", "cat", "dog", "fisch ß")
    assert classifier.labelled == 1
    assert [(port.datatype, port.shape) for port in table.inputs] == [("INT64", (-1,)), ("FP32", (-1, 2)), ("BOOL", (-1, 2))]
    assert (table.classes, table.labelled) == ((), None)
    assert [output.shape for output in classifier.run({"images": IMAGES})] == [(8, 4), (8, 4)]


@pytest.fixture
def copied(classifier_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier_bundle, tmp_path / "bundle"))


def test_another_file_is_refused(copied: Path) -> None:
    content = bytearray((copied / "model.onnx").read_bytes())
    content[-1] ^= 1
    (copied / "model.onnx").write_bytes(content)
    with pytest.raises(ServingError, match=r"model.onnx is not the file in manifest.json \(sha256 .*: copy the bundle again"):
        load(copied)


def test_what_is_no_bundle_is_refused(copied: Path) -> None:
    manifest = copied / "manifest.json"
    whole = json.loads(manifest.read_text())
    for content, match in (
        ("[]", "holds list, but must hold a mapping"),
        ("{", "cannot be read"),
        ("{}", "is not the file in manifest.json"),
        (json.dumps({**whole, "classes": ["a", "b"]}), "names 2 classes, but no output has as many columns"),
        (json.dumps({**whole, "classes": 7}), "classes are not a list of names"),
    ):
        manifest.write_text(content)
        with pytest.raises(ServingError, match=match):
            load(copied)
    (copied / "model.onnx").unlink()
    with pytest.raises(ServingError, match=r"model.onnx cannot be read \(No such file"):
        load(copied)
    manifest.unlink()
    with pytest.raises(ServingError, match="there is no bundle in"):
        load(copied)


def test_a_file_that_cannot_run_is_refused(copied: Path) -> None:
    (copied / "model.onnx").write_bytes(b"no model")
    (copied / "manifest.json").write_text(json.dumps({"sha256": files.digest(copied / "model.onnx")}))
    with pytest.raises(ServingError, match="cannot be served: onnxruntime cannot load"):
        load(copied)


def test_a_type_without_a_word_is_refused(tmp_path: Path) -> None:
    path = lookup(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("words", onnx.TensorProto.STRING, ["batch"]))
    model.graph.output.append(helper.make_tensor_value_info("words_out", onnx.TensorProto.STRING, ["batch"]))
    model.graph.node.append(helper.make_node("Identity", ["words"], ["words_out"]))
    onnx.save(model, path)
    (tmp_path / "manifest.json").write_text(json.dumps({"sha256": files.digest(path)}))
    with pytest.raises(ServingError, match=r"words of the model is tensor\(string\), but .* can be served"):
        load(tmp_path)


def test_no_batching_where_rows_are_fixed_or_depend_on_each_other(tmp_path: Path) -> None:
    fixed = load(bundle(tmp_path / "fixed", lookup(tmp_path / "fixed.onnx", batch=3)))
    assert not fixed.batched
    assert fixed.inputs[0].shape == (3,)
    scales = [helper.make_node("DynamicQuantizeLinear", ["scale"], ["bytes", "step", "zero"])]
    assert not load(bundle(tmp_path / "dynamic", lookup(tmp_path / "dynamic.onnx", extra=scales))).batched
    assert load(bundle(tmp_path / "open", lookup(tmp_path / "open.onnx"))).batched
