import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from sample_classifier import METADATA, classifier

from export import predict
from export.bundle import manifest_of, write_bundle
from export.to_onnx import to_onnx

Exported = Callable[..., Path]
CLASSES = json.loads(METADATA["classes"])


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    """A bundle's folder, with two images of the model's own size beside it."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(folder, model=exported(), manifest=manifest_of(exported()))
    for name in ("one", "two"):
        Image.fromarray(pixels(name)).save(tmp_path / f"{name}.png")
    return folder


def pixels(name: str) -> np.ndarray:
    return np.random.default_rng(len(name) + ord(name[0])).integers(0, 256, (8, 8, 3), np.uint8)


def probabilities(*images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return classifier().eval()(torch.from_numpy(np.stack(images)))[1].numpy()


def run(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script as its user runs it: in its own process, in another folder, isolated from this repository."""
    command = [sys.executable, "-I", str(bundle / "predict.py"), *arguments]
    return subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True, timeout=60)


def test_prints_a_line_per_image_or_json(bundle: Path) -> None:
    expected = probabilities(pixels("one"), pixels("two"))
    best = [CLASSES[index] for index in expected.argmax(1)]
    lines = run(bundle, "one.png", "two.png", "--top", "2")
    assert (lines.returncode, lines.stderr) == (0, "")
    assert [line.split(" (")[0] for line in lines.stdout.splitlines()] == [
        f"{name}.png: {label} {row.max():.4f}" for name, label, row in zip(("one", "two"), best, expected, strict=True)
    ]
    answers = json.loads(run(bundle, "one.png", "two.png", "--json", "--top", "9").stdout)
    assert [answer["path"] for answer in answers] == ["one.png", "two.png"]
    for answer, row in zip(answers, expected, strict=True):
        given = {entry["class"]: entry["probability"] for entry in answer["top"]}
        assert list(given) == [CLASSES[index] for index in np.argsort(-row)]
        np.testing.assert_allclose([given[name] for name in CLASSES], row, atol=1e-5)
        assert (answer["class"], answer["probability"]) == next(iter(given.items()))


def test_another_file_than_the_measured_one_is_refused(bundle: Path) -> None:
    with (bundle / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    result = run(bundle, "one.png")
    assert (result.returncode, result.stdout) == (2, "")
    assert "is not the file in manifest.json" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["one.png", "none.png"], "there is no image at"),
        (["text.png"], "cannot be decoded"),
        (["broken.png"], "cannot be decoded"),
        (["."], "cannot be decoded"),
        (["one.png", "--model", "none.onnx"], "there is no model at"),
        (["one.png", "--model", "text.png"], "cannot be loaded"),
        (["one.png", "--top", "0"], "must be at least 1"),
    ],
)
def test_each_error_names_its_cause(
    bundle: Path, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bundle.parent)
    Path("broken.png").write_bytes(Path("one.png").read_bytes()[:60])
    Path("text.png").write_text("not an image")
    model = [] if "--model" in arguments else ["--model", str(bundle / "model.onnx")]
    assert predict.main([*arguments, *model]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert sentence in output.err
    assert len(output.err.splitlines()) == 1


def test_runs_without_a_manifest_and_refuses_a_broken_one(bundle: Path) -> None:
    images, model = [bundle.parent / "one.png"], bundle / "model.onnx"
    (bundle / "manifest.json").write_text("[]")
    with pytest.raises(predict.PredictError, match=r"manifest\.json cannot be read"):
        predict.predict(images, model, 1)
    (bundle / "manifest.json").unlink()
    assert len(predict.predict(images, model, 1)[0]["top"]) == 1


def test_images_are_turned_upright_coloured_and_resized(bundle: Path) -> None:
    large = Image.fromarray(np.random.default_rng(1).integers(0, 256, (21, 30, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held sideways: show it turned by 90 degrees clockwise
    large.save(bundle.parent / "turned.png", exif=turned)
    large.convert("L").save(bundle.parent / "grey.png")
    upright = large.transpose(Image.Transpose.ROTATE_270).resize((8, 8), Image.Resampling.BILINEAR)
    grey = large.convert("L").convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
    answers = predict.predict([bundle.parent / "turned.png", bundle.parent / "grey.png"], bundle / "model.onnx", 4)
    for answer, row in zip(answers, probabilities(np.asarray(upright), np.asarray(grey)), strict=True):
        given = {entry["class"]: entry["probability"] for entry in answer["top"]}
        np.testing.assert_allclose([given[name] for name in CLASSES], row, atol=1e-5)


def test_a_model_that_does_not_take_bytes_is_refused(bundle: Path, exported: Exported) -> None:
    with pytest.raises(predict.PredictError, match=r"takes tensor\(float\) .* but must take uint8"):
        predict.predict([bundle.parent / "one.png"], exported(dtype=torch.float32), 4)


def test_grey_models_and_models_without_names(tmp_path: Path) -> None:
    class Grey(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            mean = images.float().mean((1, 2)) / 255
            return (torch.cat([mean, 1 - mean], 1),)

    path = tmp_path / "grey.onnx"
    to_onnx(Grey(), torch.zeros(1, 4, 4, 1, dtype=torch.uint8), path, outputs=("logits",), metadata={}, exporter="torchscript")
    Image.new("RGB", (9, 5), "white").save(tmp_path / "white.png")
    (answer,) = predict.predict([tmp_path / "white.png"], path, 3)
    assert answer["class"] == "0"
    assert answer["probability"] == pytest.approx(1 / (1 + np.exp(-1)))
    wrong = onnx.load(path)
    wrong.metadata_props.add(key="classes", value='["only"]')
    onnx.save(wrong, path)
    with pytest.raises(predict.PredictError, match="names 1 classes and answers for 2"):
        predict.predict([tmp_path / "white.png"], path, 3)


def test_needs_only_what_it_says() -> None:
    tree = ast.parse(Path(predict.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy", "PIL", "onnxruntime"}
