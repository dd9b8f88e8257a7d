from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sample_classifier import OUTPUTS, Classifier, classifier, example
from torch import Tensor, nn

from export.check import Parity, ParityError, check, require
from export.to_onnx import EXPORTERS, to_onnx

Exported = Callable[..., Path]


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


def export(module: nn.Module, folder: Path) -> Path:
    path = folder / "model.onnx"
    to_onnx(module, example(), path, outputs=OUTPUTS, metadata={}, exporter="torchscript")
    return path


def tampered(path: Path, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [4, 32])
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)), weights.name))
    onnx.save(model, folder / "tampered.onnx")
    return folder / "tampered.onnx"


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_faithful_file_passes(exported: Exported, exporter: str, dtype: torch.dtype, tmp_path: Path) -> None:
    values = images(300) if dtype == torch.uint8 else (images(300) / 255).astype(np.float32)
    np.save(tmp_path / "images.npy", values)
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    module = classifier().train()
    parity, logits = check(exported(exporter, dtype), module, stored, batch_size=128)
    require(parity)
    assert (parity.examples, parity.agreement, parity.differing, parity.ties) == (300, 1.0, 0, 0)
    assert parity.batch_sizes == (1, 2, 7, 128)
    assert 0 <= parity.largest_difference < 1e-5
    assert 0 <= parity.probability_difference < 1e-5
    assert module.training
    with torch.no_grad():
        np.testing.assert_allclose(logits, module.eval()(torch.from_numpy(np.array(stored)))[0], atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_examples_than_a_small_batch(exported: Exported, count: int) -> None:
    parity, logits = check(exported(), classifier(), images(count))
    assert parity.passed
    assert logits.shape == (count, 4)


def test_one_changed_weight_is_found(exported: Exported, tmp_path: Path) -> None:
    def nudge(weights: np.ndarray) -> np.ndarray:
        weights = weights.copy()
        weights[2, 5] += 0.05
        return weights

    parity, _ = check(tampered(exported(), tmp_path, nudge), classifier(), images(20))
    assert not parity.passed
    assert parity.largest_difference > 1e-4
    with pytest.raises(ParityError, match=r"on 20 examples \d+ predictions differ .*tolerance 0.0001"):
        require(parity)


def test_another_network_is_found(exported: Exported) -> None:
    parity, _ = check(exported(), classifier(1), images(50))
    assert not parity.passed
    assert parity.differing > 0
    assert parity.agreement == 1 - parity.differing / 50


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number_never_passes(exported: Exported, tmp_path: Path, value: float) -> None:
    path = tampered(exported(), tmp_path, lambda weights: np.full_like(weights, value))
    module = classifier()
    with torch.no_grad():
        module.body[6].weight.fill_(value)
    for compared in (module, classifier()):
        assert not check(path, compared, images(5))[0].passed


class Constant(nn.Module):
    """The same logits for every image: how far apart two of them are is what a test decides."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(logits))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.values + 0 * pixels.float().mean((1, 2, 3)).unsqueeze(1)
        return logits, logits.softmax(-1)


def test_a_tie_is_counted_and_forgiven(tmp_path: Path) -> None:
    parity, _ = check(export(Constant(0, 5e-5), tmp_path), Constant(5e-5, 0), images(4))
    assert (parity.passed, parity.differing, parity.ties, parity.agreement) == (True, 4, 4, 0.0)
    parity, _ = check(export(Constant(0, 5e-4), tmp_path), Constant(5e-4, 0), images(4), tolerance=2e-4)
    assert (parity.passed, parity.differing, parity.ties) == (False, 4, 0)


def test_tolerance_grows_with_the_logits_of_the_example(tmp_path: Path) -> None:
    path = export(Constant(1000.0, 0.0), tmp_path)
    assert check(path, Constant(1000.05, 0.0), images(2))[0].passed
    assert not check(path, Constant(1000.2, 0.0), images(2))[0].passed


class BatchMean(Classifier):
    """What must never ship: an answer that depends on who else is in the batch."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = super().forward(pixels)
        return logits - logits.mean(0, keepdim=True), probabilities


def test_an_answer_that_depends_on_the_batch_is_found(tmp_path: Path) -> None:
    module = BatchMean()
    parity, _ = check(export(module, tmp_path), module, images(64))
    assert not parity.passed
    assert parity.largest_difference > 1e-3


def test_what_cannot_be_compared_is_named(exported: Exported, tmp_path: Path) -> None:
    path = exported()
    with pytest.raises(ParityError, match=r"float32.*the file takes uint8"):
        check(path, classifier(), images(3).astype(np.float32))
    with pytest.raises(ParityError, match="0 inputs"):
        check(path, classifier(), images(0))
    with pytest.raises(ParityError, match=r"the module with \[\(3, 2\), \(3, 2\)\]"):
        check(path, Constant(0.0, 1.0), images(3))
    with pytest.raises(FileNotFoundError, match="export the module"):
        check(tmp_path / "none.onnx", classifier(), images(3))


def test_a_file_of_one_batch_size_is_named(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 5
    onnx.save(model, tmp_path / "five.onnx")
    with pytest.raises(ParityError, match="must take any size"):
        check(tmp_path / "five.onnx", classifier(), images(5))


def test_require_accepts_what_passed() -> None:
    require(Parity(1, 1.0, 0.0, 0.0, 1e-4, (1,), True, 0, 0))
