import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export import benchmark, files, predict
from export.bundle import BundleError, Extras, manifest_of, write_bundle
from export.web.runtime import Runtime

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


WRITTEN = {
    *("README.md", "benchmark.py", "bundle.zip", "labels.txt", "manifest.json", "model.onnx", "predict.py"),
    *("triton/model/1/model.onnx", "triton/model/config.pbtxt", "triton/model/labels.txt", "web/README.md"),
}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_bundle_holds_the_measured_bytes(exported: Exported, tmp_path: Path) -> None:
    manifest = {"test": {"accuracy": 0.9}, **manifest_of(exported())}
    for _ in range(2):  # writing it again changes nothing
        write_bundle(tmp_path, model=exported(), manifest=manifest)
    made = content(tmp_path)
    assert set(made) == WRITTEN
    assert made["model.onnx"] == made["triton/model/1/model.onnx"] == exported().read_bytes()
    assert made["predict.py"] == Path(predict.__file__).read_bytes()
    assert made["benchmark.py"] == Path(benchmark.__file__).read_bytes()
    assert made["labels.txt"].decode().splitlines() == ["bird", "cat", "dog", "fisch ß"]
    named = WRITTEN - {"manifest.json", "bundle.zip"}
    complete = manifest | {"files": {name: hashlib.sha256(made[name]).hexdigest() for name in named}}
    assert made["manifest.json"].decode() == json.dumps(complete, indent=2, sort_keys=True) + "\n"
    write_bundle(tmp_path, model=tmp_path / "model.onnx", manifest=manifest)
    assert content(tmp_path) == made


def test_equal_inputs_give_equal_bytes_and_the_zip_holds_the_folder(exported: Exported, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        runtime = Runtime(b"export {};", b"\0asm" * 1000)
        write_bundle(tmp_path / name, model=exported(), manifest=manifest_of(exported()), examples=IMAGES, extras=Extras(runtime))
        made.append(content(tmp_path / name))
    assert made[0] == made[1]
    assert {name for name in made[0] if not name.startswith("web/")} == WRITTEN - {"web/README.md"} | {"test_vectors.npz", "verify.py"}
    assert {"web/README.md", "web/index.html", "web/model.js", "web/runtime.js"} < set(made[0])
    with zipfile.ZipFile(tmp_path / "one" / "bundle.zip") as archive:
        held = {name.removeprefix("bundle/"): archive.read(name) for name in archive.namelist()}
    assert held == {name: data for name, data in made[0].items() if name != "bundle.zip"}


def test_the_vectors_are_the_files_own_answers(exported: Exported, tmp_path: Path) -> None:
    write_bundle(tmp_path, model=exported(), manifest=manifest_of(exported()), examples=IMAGES, tolerance=1e-3)
    expected = onnxruntime.InferenceSession(exported()).run(None, {"images": IMAGES})
    with np.load(tmp_path / "test_vectors.npz", allow_pickle=False) as vectors:
        assert sorted(vectors.files) == ["images", "logits", "probabilities", "tolerance"]
        np.testing.assert_array_equal(vectors["images"], IMAGES)
        np.testing.assert_allclose(vectors["logits"], expected[0], atol=1e-6)
        assert float(vectors["tolerance"]) == 1e-3


def test_bundle_refuses_before_it_writes(exported: Exported, tmp_path: Path) -> None:
    manifest = manifest_of(exported())
    metadata = {**manifest["metadata"], "classes": "not JSON"}
    complex_port = [{**manifest["inputs"][0], "dtype": "complex64"}]
    for wrong, images, match in (
        ({**manifest, "sha256": "0" * 64}, None, "start from manifest_of"),
        ({**manifest, "score": float("nan")}, None, "not JSON"),
        ({**manifest, "metadata": metadata}, None, "not a JSON list"),
        ({**manifest, "inputs": complex_port}, None, "images is complex64"),
        (manifest, IMAGES[:0], "0 examples are no test"),
        (manifest, IMAGES[:, :4], "does not run on the examples"),
    ):
        with pytest.raises(BundleError, match=match):
            write_bundle(tmp_path, model=exported(), manifest=wrong, examples=images)
    with pytest.raises(BundleError, match="create it first"):
        write_bundle(tmp_path / "none", model=exported(), manifest=manifest)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nth", range(len(WRITTEN)))
def test_a_full_disk_leaves_the_bundle_as_it_was(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    manifest = manifest_of(exported())
    write_bundle(tmp_path, model=exported(), manifest=manifest)
    before, written, write = content(tmp_path), [0], files.write

    def full(path: Path, data: bytes) -> None:
        written[0] += 1
        if written[0] > nth:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(tmp_path, model=exported(), manifest={**manifest, "test": {"accuracy": 0.5}})
    assert content(tmp_path) == before


def test_a_stop_in_the_last_step_leaves_no_manifest_and_the_next_call_completes_it(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(exported())
    write_bundle(tmp_path, model=exported(), manifest=manifest)
    replace = Path.replace

    def stopped(self: Path, target: Path) -> Path:
        if target == tmp_path / "labels.txt":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_bundle(tmp_path, model=exported(), manifest={**manifest, "test": {"accuracy": 0.5}})
    assert set(content(tmp_path)) <= WRITTEN - {"manifest.json"}
    write_bundle(tmp_path, model=exported(), manifest=manifest)
    assert set(content(tmp_path)) == WRITTEN


def test_a_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def reject(written: Path) -> None:
        assert written.read_bytes() == b"new"
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        files.write(path, b"new", reject)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"old")]
