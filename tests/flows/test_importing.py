"""`nasflow import`: data come into the project whole or not at all, under DVC, and with --use into the settings."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from recorded_project import inside, make_recorded_project, nasflow
from ruamel.yaml import YAML

from flows import importing, tracking


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project in a folder of its own; what is imported lies beside it."""
    place = tmp_path / "project"
    place.mkdir()
    make_recorded_project(place)
    return place


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a web server over the folder beside the project."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def archive(path: Path) -> Path:
    np.savez(path, x=np.zeros((20, 8, 8), dtype=np.uint8), y=np.arange(20) % 2)
    return path


def left(root: Path) -> list[str]:
    """What lies in data/, hidden files too."""
    return sorted(path.relative_to(root).as_posix() for path in (root / "data").rglob("*")) if (root / "data").exists() else []


def test_a_file_is_copied_tracked_and_made_the_source(root: Path, tmp_path: Path) -> None:
    digits = archive(tmp_path / "digits.npz")
    digest = hashlib.sha256(digits.read_bytes()).hexdigest()
    with inside(root):
        answer = nasflow("import", str(digits), "--sha256", digest, "--use")
        assert answer.code == 0, answer.errors
        assert f"sha256 {digest}" in answer.output
        assert "git add data/digits.npz.dvc" in answer.output
        assert nasflow("stage", "prepare").code == 0
    assert (root / "data/digits.npz").read_bytes() == digits.read_bytes()
    noted = YAML(typ="safe").load((root / "data/digits.npz.dvc").read_text())["outs"][0]
    assert noted["md5"] == hashlib.md5(digits.read_bytes(), usedforsecurity=False).hexdigest()
    assert YAML(typ="safe").load((root / "params.yaml").read_text())["prepare"]["source"] == {"name": "npz", "path": "data/digits.npz"}
    assert json.loads((root / "results/prepare/lineage.json").read_text())["deps"]["data/digits.npz"] == noted["md5"]


def test_a_folder_is_copied_and_the_way_to_use_it_is_told(root: Path, tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True)
        (tmp_path / "pets" / name).write_text(name)
    before = (root / "params.yaml").read_bytes()
    with inside(root):
        answer = nasflow("import", str(tmp_path / "pets"), "--to", "data/animals")
    assert answer.code == 0, answer.errors
    assert 'nasflow check --set "prepare.source={name: images, path: data/animals}"' in answer.output
    assert (root / "data/animals/dog/2.png").read_text() == "dog/2.png"
    assert (root / "params.yaml").read_bytes() == before
    assert left(root) == [
        "data/animals",
        "data/animals.dvc",
        *(f"data/animals/{name}" for name in ("cat", "cat/1.png", "dog", "dog/2.png")),
    ]


def test_a_url_is_fetched_and_its_address_is_kept(root: Path, tmp_path: Path, served: str) -> None:
    digits = archive(tmp_path / "my digits.npz")
    with inside(root):
        answer = nasflow("import", f"{served}/my%20digits.npz", "--to", "data/digits.npz")
    assert answer.code == 0, answer.errors
    assert (root / "data/digits.npz").read_bytes() == digits.read_bytes()
    note = YAML(typ="safe").load((root / "data/digits.npz.dvc").read_text())
    assert note["deps"][0]["path"] == f"{served}/my%20digits.npz"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere.npz"], "nowhere.npz does not exist: name a file, a folder or a URL"),
        (["../digits.npz", "--sha256", "0" * 64], "but 0000"),
        (["../digits.npz", "--to", "results/x"], "outside its code and results"),
        (["../digits.npz", "--to", "../x"], "name a path in the project"),
        (["../digits.npz", "--to", "params.yaml"], "params.yaml or its .dvc file is there already"),
        ([".."], "holds data/"),
        (["../empty"], "holds no file"),
        (["../full", "--sha256", "0" * 64], "is a folder, which has no SHA-256"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_a_sentence_and_leaves_nothing(
    root: Path, tmp_path: Path, words: list[str], reason: str
) -> None:
    archive(tmp_path / "digits.npz")
    for folder in ("empty", "full"):
        (tmp_path / folder).mkdir()
    archive(tmp_path / "full" / "a.npz")
    before = (root / "params.yaml").read_bytes()
    with inside(root):
        answer = nasflow("import", *words)
    assert answer.code == 1
    assert reason in answer.errors
    assert left(root) == []
    assert (root / "params.yaml").read_bytes() == before


def test_a_url_that_does_not_answer_is_refused_with_dvcs_words(root: Path, served: str) -> None:
    with inside(root):
        answer = nasflow("import", f"{served}/nowhere.npz")
    assert answer.code == 1
    said = [line for line in answer.errors.splitlines() if line.startswith("nasflow: ")]
    why = f"dependency '{served}/nowhere.npz' does not exist; nothing was imported: see whether the address is right, and answers"
    assert said == [f"nasflow: DVC did not take the data: {why}"]
    assert left(root) == []


def test_nothing_is_imported_while_a_run_works_or_outside_a_project(root: Path, tmp_path: Path) -> None:
    archive(tmp_path / "digits.npz")
    with tracking.lock(root), pytest.raises(tracking.BusyError):
        importing.bring(root, str(tmp_path / "digits.npz"), None, None)
    assert left(root) == []
    with pytest.raises(importing.ImportingError, match="is no DVC project"):
        importing.bring(tmp_path, str(tmp_path / "digits.npz"), "data/x", None)


@pytest.mark.parametrize(
    ("name", "source"), [("a.npz", "npz"), ("a.csv", "csv"), ("a.csv.gz", "csv"), ("idx", "idx"), ("folder", "images"), ("a.zip", None)]
)
def test_the_source_is_told_by_the_name(tmp_path: Path, name: str, source: str | None) -> None:
    for folder in ("idx", "folder"):
        (tmp_path / folder).mkdir()
    (tmp_path / "idx" / "train-images-idx3-ubyte.gz").touch()
    if source is None:
        with pytest.raises(importing.ImportingError, match="unpack it, import the folder"):
            importing.source_for(tmp_path, name)
    else:
        assert importing.source_for(tmp_path, name) == {"name": source, "path": name}
