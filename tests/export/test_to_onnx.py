import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sample_classifier import METADATA, OUTPUTS, Classifier, classifier, example
from torch import Tensor, nn

from export.to_onnx import EXPORTERS, ExportError, to_onnx

REPOSITORY = Path(__file__).parents[2]
both = pytest.mark.parametrize("exporter", EXPORTERS)


def refuses(module: nn.Module, path: Path, match: str, exporter: str = "torchscript", outputs: tuple[str, ...] = OUTPUTS) -> None:
    with pytest.raises(ExportError, match=match):
        to_onnx(module, example(), path, outputs=outputs, metadata={}, exporter=exporter)
    assert list(path.parent.iterdir()) == []


@both
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_runs_at_any_batch_size(exported: Callable[..., Path], exporter: str, dtype: torch.dtype) -> None:
    session = onnxruntime.InferenceSession(exported(exporter, dtype), providers=["CPUExecutionProvider"])
    assert [port.name for port in (*session.get_inputs(), *session.get_outputs())] == ["images", *OUTPUTS]
    assert [port.shape for port in (*session.get_inputs(), *session.get_outputs())] == [["batch", 8, 8, 3], ["batch", 4], ["batch", 4]]
    for size in (1, 3, 7):
        images = torch.randint(0, 256, (size, 8, 8, 3), generator=torch.Generator().manual_seed(size)).to(dtype)
        with torch.no_grad():
            expected = classifier().eval()(images)
        for answer, wanted in zip(session.run(None, {"images": images.numpy()}), expected, strict=True):
            np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-4)


@both
def test_the_file_says_only_what_it_should(exported: Callable[..., Path], exporter: str) -> None:
    path = exported(exporter)
    model = onnx.load(path)
    assert {entry.key: entry.value for entry in model.metadata_props} == {**METADATA, "exporter": exporter}
    assert [entry.key for entry in model.metadata_props] == sorted(["exporter", *METADATA])
    assert (model.producer_name, model.producer_version) == ("nasflow.export", "torch " + torch.__version__.partition("+")[0])
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    content = path.read_bytes()
    places = (REPOSITORY, Path.cwd(), Path.home(), path.parent, Path(sys.prefix), Path(torch.__file__).parent)
    for leak in (*map(str, places), "stack_trace", ".py", "conftest", "site-packages"):
        assert leak.encode() not in content, leak


@both
def test_same_bytes_in_another_process(exported: Callable[..., Path], exporter: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from export.to_onnx import to_onnx; from sample_classifier import *\n"
        "metadata = dict(reversed(METADATA.items())); images = example().repeat(5, 1, 1, 1) + 9\n"
        "to_onnx(classifier(), images, Path(sys.argv[1]), outputs=OUTPUTS, metadata=metadata, exporter=sys.argv[2])"
    )
    path = tmp_path / "again.onnx"
    environment = {"PYTHONHASHSEED": "12345", "PYTHONPATH": f"{REPOSITORY}:{Path(__file__).parent}"}
    result = subprocess.run([sys.executable, "-c", program, path, exporter], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert path.read_bytes() == exported(exporter).read_bytes()


def test_other_weights_or_metadata_are_other_bytes(exported: Callable[..., Path], tmp_path: Path) -> None:
    for number, (seed, metadata) in enumerate([(1, METADATA), (0, {**METADATA, "seed": "1"})]):
        path = tmp_path / f"{number}.onnx"
        to_onnx(classifier(seed), example(), path, outputs=OUTPUTS, metadata=metadata, exporter="torchscript")
        assert path.read_bytes() != exported().read_bytes()


def test_module_keeps_its_modes_and_weights(tmp_path: Path) -> None:
    module = classifier().train()
    module.body[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    to_onnx(module, example(), tmp_path / "model.onnx", outputs=OUTPUTS, metadata={}, exporter="torchscript")
    assert [part.training for part in module.body] == [True, False, True, True, True, True, True]
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class Failing(Classifier):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raise KeyError("edge_0_1")


class FrozenBatch(Classifier):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = super().forward(images)
        return logits.reshape(int(images.shape[0]), 4), probabilities


class Branching(Classifier):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = super().forward(images)
        return (logits, probabilities) if logits.sum() > 0 else (probabilities, logits)


class Pooling(Classifier):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = super().forward(images)
        return logits.mean(0, keepdim=True), probabilities


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    refuses(Failing(), tmp_path / "model.onnx", "edge_0_1.*fix it")
    refuses(FrozenBatch(), tmp_path / "model.onnx", r"logits has shape \[2, 4\]")
    refuses(Pooling(), tmp_path / "model.onnx", r"logits has shape \(1, 4\) for 2 images")
    refuses(Branching(), tmp_path / "model.onnx", "'dynamo' cannot translate", exporter="dynamo")
    refuses(classifier(), tmp_path / "model.onnx", "2 tensors for the names", outputs=("logits",))
    refuses(classifier(), tmp_path / "model.onnx", "one of dynamo, torchscript", exporter="onnxscript")


class Unknown(Classifier):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = super().forward(images)
        return torch.special.bessel_j0(logits), probabilities


@both
def test_a_failed_translation_prints_nothing(exporter: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refuses(Unknown(), tmp_path / "model.onnx", f"'{exporter}' cannot translate .*bessel_j0", exporter)
    print("standard output works again")
    assert capfd.readouterr() == ("standard output works again\n", "")


def test_dynamo_takes_a_size_read_from_the_tensor(tmp_path: Path) -> None:
    to_onnx(FrozenBatch(), example(), tmp_path / "model.onnx", outputs=OUTPUTS, metadata={})
    assert (tmp_path / "model.onnx").is_file()


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="float64"):
        to_onnx(classifier(), example(torch.float64), path, outputs=OUTPUTS, metadata={})
    with pytest.raises(ExportError, match="'seed' is 3"):
        to_onnx(classifier(), example(), path, outputs=OUTPUTS, metadata={"seed": 3})  # type: ignore[dict-item]
    with pytest.raises(ExportError, match="names exporter 'other'"):
        to_onnx(classifier(), example(), path, outputs=OUTPUTS, metadata={"exporter": "other"})
    with pytest.raises(ExportError, match="create the folder"):
        to_onnx(classifier(), example(), tmp_path / "no" / "model.onnx", outputs=OUTPUTS, metadata={}, exporter="torchscript")


def test_an_invalid_model_never_gets_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")

    def reject(written: Path) -> None:
        assert onnx.load(written).graph.node
        raise onnx.checker.ValidationError("not in SSA form")

    monkeypatch.setattr("export.to_onnx._check_bytes", reject)
    with pytest.raises(ExportError, match="not in SSA form"):
        to_onnx(classifier(), example(), path, outputs=OUTPUTS, metadata={}, exporter="torchscript")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.onnx", b"before")]
