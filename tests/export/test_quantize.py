"""The int8 variant of a file: what changes, what must not, and what is refused in words."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from sample_classifier import METADATA
from torch import nn

from export import files
from export.bundle import manifest_of
from export.machine import Target
from export.quantize import QuantizeError, Scheme, quantize
from export.session import open_session
from export.to_onnx import to_onnx

Exported = Callable[..., Path]
IMAGES = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), np.uint8)


def batches() -> Iterator[np.ndarray]:
    yield from (IMAGES[start : start + 16] for start in range(0, 48, 16))


def answers(path: Path, images: np.ndarray = IMAGES) -> list[np.ndarray]:
    return open_session(path, Target()).run(None, {"images": images})


def saved(module: nn.Module, path: Path) -> Path:
    example = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    to_onnx(module, example, path, outputs=("logits",), metadata={}, exporter="torchscript")
    return path


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_answers_stay_and_so_does_the_interface(exported: Exported, tmp_path: Path, exporter: str) -> None:
    path = tmp_path / "int8.onnx"
    record = quantize(exported(exporter), path, batches())
    before, after = manifest_of(exported(exporter)), manifest_of(path)
    assert all(after[name] == before[name] for name in ("inputs", "outputs", "opset", "producer"))
    words = json.loads(after["metadata"].pop("quantized"))
    assert after["metadata"] == before["metadata"]
    assert json.loads(after["metadata"]["classes"]) == json.loads(METADATA["classes"])
    assert words == {"of": before["sha256"], "examples": 48, "method": "minmax", "activations": "uint8", "reduce_range": True}
    assert (record.bytes, record.sha256, record.examples) == (after["bytes"], after["sha256"], 48)
    assert (record.quantized["Conv"], record.quantized["Gemm"], record.floating["Softmax"]) == (1, 1, 1)
    (given, shares), (wanted, _) = answers(path), answers(exported(exporter))
    assert 0 < np.abs(given - wanted).max() < 0.05 * np.ptp(wanted)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    assert answers(path, IMAGES[:1])[0].shape == (1, 4)


def test_weights_are_rounded_per_channel_and_what_needs_more_than_8_bits_is_not(exported: Exported, tmp_path: Path) -> None:
    quantize(exported(), tmp_path / "int8.onnx", batches())
    model = onnx.load(tmp_path / "int8.onnx")
    makers = {name: node for node in model.graph.node for name in node.output}
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    assert makers[convolution.input[0]].op_type == "DequantizeLinear"
    assert scales[makers[convolution.input[1]].input[1]].shape == (8,)
    weights = scales[makers[convolution.input[1]].input[0]]
    assert (weights.dtype, int(np.abs(weights).max())) == (np.int8, 64)  # 7 bits
    assert [makers[port.name].op_type for port in model.graph.output] == ["Gemm", "Softmax"]
    full = quantize(exported(), tmp_path / "full.onnx", batches(), Scheme(reduce_range=False))
    wide = [
        onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "full.onnx").graph.initializer if t.data_type == onnx.TensorProto.INT8
    ]
    assert max(int(np.abs(array.astype(int)).max()) for array in wide) == 127
    assert full.sha256 != files.digest(tmp_path / "int8.onnx")


def test_nothing_is_rounded_between_the_images_and_the_first_weights(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.convolution((images.float() * 0.01 + 0.5).permute(0, 3, 1, 2)).mean((2, 3))

    quantize(saved(Scaled(), tmp_path / "scaled.onnx"), tmp_path / "int8.onnx", batches())
    kinds, name = [], "images"
    nodes = onnx.load(tmp_path / "int8.onnx").graph.node
    while "Conv" not in kinds:
        node = next(node for node in nodes if name in node.input)
        kinds.append(node.op_type)
        name = node.output[0]
    assert kinds[-3:] == ["QuantizeLinear", "DequantizeLinear", "Conv"]
    assert sorted(kinds[:-3]) == ["Add", "Cast", "Mul", "Transpose"]


def test_equal_inputs_give_equal_bytes_in_every_process(exported: Exported, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    code = """
import sys, numpy as np
from pathlib import Path
from export.quantize import Scheme, quantize
images = np.load("images.npy")
for method in ("minmax", "entropy", "percentile"):
    print(quantize(Path(sys.argv[1]), Path("out.onnx"), np.split(images, 3), Scheme(method)).sha256)
"""
    root = str(Path(__file__).parents[2])
    printed = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root}
        command = [sys.executable, "-c", code, str(exported())]
        printed.append(subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout.split())
    assert printed[0] == printed[1]
    assert len(set(printed[0])) == 3
    assert printed[0][0] == quantize(exported(), tmp_path / "here.onnx", batches()).sha256


def test_ranges_come_from_all_batches(exported: Exported, tmp_path: Path) -> None:
    dark = np.zeros((16, 8, 8, 3), np.uint8)
    only = quantize(exported(), tmp_path / "a.onnx", [dark])
    both = quantize(exported(), tmp_path / "b.onnx", [dark, IMAGES])
    swapped = quantize(exported(), tmp_path / "c.onnx", [IMAGES, dark])
    assert only.sha256 != both.sha256
    assert both.sha256 == swapped.sha256
    wanted = answers(exported())[0]
    errors = [np.abs(answers(tmp_path / name)[0] - wanted).mean() for name in ("a.onnx", "b.onnx")]
    assert errors[1] < errors[0]


def test_only_the_operators_asked_for_are_rounded(exported: Exported, tmp_path: Path) -> None:
    record = quantize(exported(), tmp_path / "int8.onnx", batches(), Scheme(operators=("Conv",), activations="int8"))
    assert record.quantized == {"Conv": 1}
    assert record.floating["Gemm"] == 1


@pytest.mark.parametrize(
    ("given", "scheme", "sentence"),
    [
        ([], Scheme(), "no images to calibrate with"),
        ([IMAGES[:0]], Scheme(), r"batch 0 is uint8 \[0, 8, 8, 3\]"),
        ([IMAGES, IMAGES.astype(np.float32)], Scheme(), "batch 1 is float32 .* takes uint8"),
        ([IMAGES[:, :4]], Scheme(), r"batch 0 is uint8 \[48, 4, 8, 3\]"),
        ([IMAGES], Scheme(operators=("Conv", "HardSwish")), "HardSwish cannot be quantized, only .*Conv.* can"),
        ([IMAGES], Scheme(operators=("MaxPool",)), "nothing in model.onnx can be quantized"),
        ([IMAGES], Scheme(method="median"), "must be one of minmax, entropy, percentile"),  # type: ignore[arg-type]
    ],
)
def test_each_refusal_names_its_cause_and_leaves_the_old_file(
    exported: Exported, tmp_path: Path, given: list[np.ndarray], scheme: Scheme, sentence: str
) -> None:
    path = tmp_path / "int8.onnx"
    path.write_bytes(b"old")
    with pytest.raises(QuantizeError, match=sentence):
        quantize(exported(), path, given, scheme)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("int8.onnx", b"old")]


def test_a_model_without_weights_and_one_that_is_not_finite(tmp_path: Path) -> None:
    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.float().mean((1, 2))

    class Endless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.relu(self.linear.weight[0] + torch.log(images.float().mean((1, 2)) - 1000)))

    with pytest.raises(QuantizeError, match=r"nothing in mean\.onnx can be quantized: it holds .*ReduceMean"):
        quantize(saved(Mean(), tmp_path / "mean.onnx"), tmp_path / "int8.onnx", [IMAGES])
    with pytest.raises(QuantizeError, match="computes numbers that are not finite"):
        quantize(saved(Endless(), tmp_path / "endless.onnx"), tmp_path / "int8.onnx", [IMAGES])
    with pytest.raises(FileNotFoundError, match="export it first"):
        quantize(tmp_path / "none.onnx", tmp_path / "int8.onnx", [IMAGES])
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(QuantizeError, match="cannot load"):
        quantize(tmp_path / "text.onnx", tmp_path / "int8.onnx", [IMAGES])
    assert not (tmp_path / "int8.onnx").exists()


def test_nothing_is_printed(exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantize(exported(), tmp_path / "int8.onnx", batches(), Scheme("entropy"))
    assert capfd.readouterr() == ("", "")
