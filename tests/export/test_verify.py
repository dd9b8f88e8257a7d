"""verify.py tells a bundle that is as it was exported from one that is not."""

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import verify
from export.archive import arrays
from export.bundle import manifest_of, write_bundle

Exported = Callable[..., Path]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(folder, model=exported(), manifest=manifest_of(exported()), examples=IMAGES)
    return folder


def tamper(bundle: Path, by: float) -> None:
    """Change one weight of the last layer."""
    model = onnx.load(bundle / "model.onnx")
    last = next(node for node in model.graph.node if node.op_type == "Gemm")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[2])
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += by
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, bundle / "model.onnx")


def forge(bundle: Path) -> None:
    """Make the manifest agree with whatever lies beside it, as somebody who wants to deceive would."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in manifest["files"]}
    manifest["sha256"] = manifest["files"]["model.onnx"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def run(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script as its user runs it: in its own process, in another folder, isolated from this repository."""
    command = [sys.executable, "-I", str(bundle / "verify.py"), *arguments]
    return subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True, timeout=60)


def test_a_bundle_as_exported_passes(bundle: Path) -> None:
    done = run(bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "11 files as exported, 5 examples answered as exported\n"
    found = verify.verify(bundle)
    assert found["problems"] == []
    assert found["largest_difference"] < 1e-5


def test_a_tampered_model_is_found_by_its_bytes_and_by_its_answers(bundle: Path) -> None:
    tamper(bundle, 0.01)
    done = run(bundle, "--json")
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    assert [problem.split()[0] for problem in problems] == ["model.onnx", "logits", "probabilities"]
    forge(bundle)  # then only the answers tell
    problems = verify.verify(bundle)["problems"]
    assert problems[0].startswith("logits differs for 5 of 5 examples, by up to 0.01 ")
    assert verify.verify(bundle, tolerance=0.1)["problems"] == []


def test_the_rule_is_relative_to_each_example(bundle: Path) -> None:
    expected = np.array([[100.0, 1.0], [0.1, 0.1]])
    assert verify._compare(expected + np.array([[0.009, 0.009], [0.00009, 0.0]]), expected, 1e-4)[0] == 0
    assert verify._compare(expected + np.array([[0.011, 0.0], [0.00011, 0.0]]), expected, 1e-4)[0] == 2
    assert verify._compare(np.full((2, 2), np.nan), expected, 1e-4)[0] == 2
    assert verify._compare(expected[:, :1], expected, 1e-4)[0] == 2


@pytest.mark.parametrize("name", ["labels.txt", "predict.py", "triton/model/1/model.onnx", "test_vectors.npz"])
def test_another_or_a_missing_file_is_named(bundle: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with (bundle / name).open("ab") as stream:
        stream.write(b" ")
    assert verify.main(["--folder", str(bundle)]) == 1
    assert f"{name} is another file" in capsys.readouterr().out
    (bundle / name).unlink()
    assert verify.main(["--folder", str(bundle)]) == 1
    assert f"{name} is missing: copy the bundle again" in capsys.readouterr().out


def test_a_model_that_does_not_load_is_a_difference_when_its_bytes_are(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "model.onnx").write_bytes(b"no model")
    assert verify.main(["--folder", str(bundle)]) == 1
    assert "model.onnx does not run" in capsys.readouterr().out
    forge(bundle)
    assert verify.main(["--folder", str(bundle)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_cannot_be_checked_is_said_in_one_line(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors, manifest = bundle / "test_vectors.npz", bundle / "manifest.json"
    for path, data, words in (
        (vectors, arrays({"images": IMAGES}), "lacks logits, probabilities, tolerance"),
        (vectors, b"PK", "cannot be read"),
        (manifest, b"{}", "cannot be read"),
        (manifest, b'{"files": 1}', "its files are not a mapping"),
    ):
        path.write_bytes(data)
        if path == vectors:
            forge(bundle)
        assert verify.main(["--folder", str(bundle)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1


def test_needs_only_what_it_says() -> None:
    tree = ast.parse(Path(verify.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy", "onnxruntime"}
