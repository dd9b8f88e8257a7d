"""One fork server and one folder of data for all kills of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_searches import make_shared
from killing import Killer


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    """What starts, kills and compares."""
    with Killer() as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every search and training reads."""
    folder = tmp_path_factory.mktemp("shared")
    make_shared(folder)
    return folder
