"""The links of the data: digests that disagree, arrays that are not there, and the user's files, wherever they came from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.why import data, hashes
from flows.why.chain import State
from flows.why.evidence import Evidence, Locked


def evidence(root: Path, reads: dict[str, str], records: dict[str, Any] | None = None) -> Evidence:
    """What dvc.lock says of a prepare stage that read these files."""
    settings = {"prepare": {"source": {"name": "npz", "path": "data/a.npz"}}}
    return Evidence(root, {"prepare": Locked({"nas/data": "0" * 32, **reads}, {}, settings)}, records or {}, {})


def test_the_users_files_are_held_to_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/a.npz", x=np.zeros(3))
    reads = {"data/a.npz": str(hashes.of_path(tmp_path / "data/a.npz"))}
    (tmp_path / "data/a.npz.dvc").write_text("deps: [{path: 'https://example.org/a.npz', etag: '\"7\"'}]\nouts: [{path: a.npz}]\n")
    link = data.originals(evidence(tmp_path, reads))
    assert link.state == State.HOLDS
    facts = dict(link.facts)
    assert facts["data/a.npz"] == f"md5 {reads['data/a.npz']}"
    assert facts["data/a.npz was fetched from"] == 'https://example.org/a.npz, version "7"'
    np.savez(tmp_path / "data/a.npz", x=np.ones(3))
    assert "it was changed since" in data.originals(evidence(tmp_path, reads)).broken[0]
    (tmp_path / "data/a.npz").unlink()
    gone = data.originals(evidence(tmp_path, reads))
    assert gone.state == State.OPEN
    assert "`dvc pull data/a.npz`" in gone.unchecked[0]


def test_what_a_library_brings_has_no_files(tmp_path: Path) -> None:
    assert data.originals(evidence(tmp_path, {})).title == "made from data that a library brings"


@pytest.mark.parametrize("other", ["search", "train"])
def test_records_that_name_other_data_are_named(tmp_path: Path, other: str) -> None:
    inputs = {name: {"data": "a" * 64} for name in ("search", "train")} | {other: {"data": "b" * 64}}
    records = {"train/architecture.json": {"inputs": inputs}, "export/manifest.json": {"metadata": {"data_digest": "a" * 64}}}
    found = data.prepared(evidence(tmp_path, {}, records))
    assert found.state == State.BROKEN
    assert "the data's digest differs: " in found.broken[0]
    assert f"the {'search' if other == 'search' else 'training'} {'b' * 16}" in found.broken[0]
