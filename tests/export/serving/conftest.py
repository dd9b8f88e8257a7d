"""Models as they are served, loaded once: tests may run them and not change them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asgi_client import Client
from served import bundle, lookup

from export.serving.application import Application
from export.serving.limits import Limits
from export.serving.model import Model, load

Exported = Callable[..., Path]


@pytest.fixture(scope="session")
def classifier_bundle(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the sample classifier; nobody may change it."""
    return bundle(tmp_path_factory.mktemp("served") / "bundle", exported())


@pytest.fixture(scope="session")
def classifier(classifier_bundle: Path) -> Model:
    return load(classifier_bundle)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The network of `served.lookup`."""
    folder = tmp_path_factory.mktemp("lookup")
    return load(bundle(folder / "bundle", lookup(folder / "lookup.onnx")), largest_batch=4)


@pytest.fixture
def client(classifier: Model) -> Iterator[Client]:
    with Client(Application(classifier, Limits())) as opened:
        yield opened
