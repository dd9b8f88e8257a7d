"""The sample classifier as a file, exported once per exporter and dtype."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sample_classifier import METADATA, OUTPUTS, classifier, example

from export.to_onnx import to_onnx


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """exported(exporter) -> the file of `classifier()`; the same file for the whole session, so nobody may change it."""
    made: dict[tuple[str, torch.dtype], Path] = {}

    def make(exporter: str = "torchscript", dtype: torch.dtype = torch.uint8) -> Path:
        if (exporter, dtype) not in made:
            path = tmp_path_factory.mktemp("exported") / "model.onnx"
            to_onnx(classifier(), example(dtype), path, outputs=OUTPUTS, metadata=METADATA, exporter=exporter)
            made[exporter, dtype] = path
        return made[exporter, dtype]

    return make
