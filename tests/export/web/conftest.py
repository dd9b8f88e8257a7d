"""A bundle of a digits classifier with the page, where onnxruntime-web can be had."""

from pathlib import Path

import pytest
from digits_classifier import EXAMPLES, export_digits

from export.bundle import Extras, manifest_of, write_bundle
from export.web.runtime import Runtime, RuntimeMissingError, runtime


@pytest.fixture(scope="session")
def real_runtime() -> Runtime:
    """onnxruntime-web from the cache or the registry."""
    try:
        return runtime()
    except RuntimeMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def bundle(real_runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle; the same for the whole session, so nobody may change it."""
    folder = tmp_path_factory.mktemp("made") / "a bundle #1"
    folder.mkdir()
    model = folder.parent / "model.onnx"
    export_digits(model)
    write_bundle(folder, model=model, manifest=manifest_of(model), examples=EXAMPLES, extras=Extras(real_runtime))
    return folder
