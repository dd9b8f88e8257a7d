import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from export import files, predict
from export.bundle import BundleError, manifest_of, write_bundle

Exported = Callable[..., Path]


def test_manifest_says_what_the_file_is(exported: Exported) -> None:
    path = exported()
    manifest = manifest_of(path)
    assert manifest["sha256"] == files.digest(path)
    assert manifest["bytes"] == len(path.read_bytes())
    assert manifest["inputs"] == [{"name": "images", "dtype": "uint8", "shape": ["batch", 8, 8, 3]}]
    assert [port["name"] for port in manifest["outputs"]] == ["logits", "probabilities"]
    assert manifest["outputs"][0] == {"name": "logits", "dtype": "float32", "shape": ["batch", 4]}
    assert manifest["opset"] == 18
    assert json.loads(manifest["metadata"]["classes"])[1] == "cat"
    assert manifest["versions"]["onnx"] == onnx.__version__
    assert manifest["producer"]["name"] == "nasflow.export"


def test_bundle_holds_the_measured_bytes(exported: Exported, tmp_path: Path) -> None:
    manifest = {"test": {"accuracy": 0.9}, **manifest_of(exported())}
    for _ in range(2):  # writing it again changes nothing
        write_bundle(tmp_path, model=exported(), manifest=manifest)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["manifest.json", "model.onnx", "predict.py"]
    assert (tmp_path / "model.onnx").read_bytes() == exported().read_bytes()
    assert (tmp_path / "predict.py").read_bytes() == Path(predict.__file__).read_bytes()
    text = (tmp_path / "manifest.json").read_text()
    assert text == json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    write_bundle(tmp_path, model=tmp_path / "model.onnx", manifest=manifest)
    assert (tmp_path / "model.onnx").read_bytes() == exported().read_bytes()


def test_bundle_refuses_before_it_writes(exported: Exported, tmp_path: Path) -> None:
    manifest = manifest_of(exported())
    for wrong, match in (({**manifest, "sha256": "0" * 64}, "start from manifest_of"), ({**manifest, "score": float("nan")}, "not JSON")):
        with pytest.raises(BundleError, match=match):
            write_bundle(tmp_path, model=exported(), manifest=wrong)
    with pytest.raises(BundleError, match="create it first"):
        write_bundle(tmp_path / "none", model=exported(), manifest=manifest)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def reject(written: Path) -> None:
        assert written.read_bytes() == b"new"
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        files.write(path, b"new", reject)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"old")]
