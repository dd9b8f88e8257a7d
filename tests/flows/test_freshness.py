"""Data that are kept elsewhere, with a real DVC: a new version, an updated address, and what is done where neither can be had."""

import contextlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_project import Project

from flows import addresses, following, freshness

STAGES = """
stages:
  prepare:
    cmd: "true"
    deps: [code.py, {data}]
    meta: {{watched: [{data}]}}
"""


class Files(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, each with an ETag that follows its content."""

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{hash(path.read_bytes())}"')
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, http.server.ThreadingHTTPServer]]:
    """A folder, and the server that shows it."""
    folder = tmp_path_factory.mktemp("site")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: Files(*arguments, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, server
    with contextlib.suppress(OSError):
        server.shutdown()
        server.server_close()


def refreshed(project: Project) -> list[str]:
    """What a refresh says."""
    said: list[str] = []
    freshness.refresh(project.root, said.append)
    return said


def test_the_version_that_git_brings_is_put_there_and_own_changes_stay(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    data, named = project.root / "data" / "x.csv", project.root / "data.dvc"
    (project.root / "dvc.yaml").write_text(STAGES.format(data="data/x.csv"))
    data.parent.mkdir()
    versions = {}
    for content in ("first", "second"):
        data.write_text(content)
        project.dvc("add", "-q", "data")
        versions[content] = named.read_bytes()
    assert refreshed(project) == []

    named.write_bytes(versions["first"])  # as `git pull` or `git checkout` does
    assert refreshed(project) == ["the data are now the version that data.dvc names"]
    assert data.read_text() == "first"

    data.write_text("somebody's own")
    named.write_bytes(versions["second"])
    [sentence] = refreshed(project)
    assert "changes of their own" in sentence
    assert data.read_text() == "somebody's own"

    data.write_text("first")
    remote = tmp_path_factory.mktemp("remote")
    project.dvc("remote", "add", "-q", "-d", "here", str(remote))
    project.dvc("push", "-q", "--all-commits", "data.dvc")
    shutil.rmtree(project.root / ".dvc" / "cache")
    project.dvc("commit", "-q", "-f", "data.dvc")  # what is there is in the cache, the version that is named is not
    named.write_bytes(versions["second"])
    assert refreshed(project) == ["the data are now the version that data.dvc names"]
    assert data.read_text() == "second"


@pytest.fixture
def pets(project: Project) -> Path:
    """A folder under DVC with two files, of which a first run has seen that it is what its file names."""
    folder = project.root / "pets"
    (project.root / "dvc.yaml").write_text(STAGES.format(data="pets"))
    folder.mkdir()
    for name in ("cat", "dog"):
        (folder / name).write_text(name)
    project.dvc("add", "-q", "pets")
    assert refreshed(project) == []
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_copied_or_deleted_by_hand_stay_so_whatever_the_dvc_file_names(project: Project, pets: Path) -> None:
    own = "the data of pets.dvc have changes of their own, and the run takes them as they are: "
    own += "`dvc add pets` keeps them as a version, `dvc checkout pets.dvc` takes them back"
    first = (project.root / "pets.dvc").read_bytes()
    shutil.copy(pets / "cat", pets / "cat again")  # all its bytes are in DVC's cache
    assert refreshed(project) == [own]
    assert names(pets) == ["cat", "cat again", "dog"]
    project.dvc("add", "-q", "pets")
    assert refreshed(project) == []
    (pets / "cat again").unlink()  # what is left is an earlier version, and somebody wants it
    (project.root / "pets.dvc").touch()
    assert refreshed(project) == [own]
    assert names(pets) == ["cat", "dog"]
    (pets / "dog").unlink()
    (project.root / "pets.dvc").write_bytes(first)
    assert refreshed(project) == [own]
    assert names(pets) == ["cat"]


def test_data_that_are_not_there_are_brought_and_half_a_version_is_made_whole(
    project: Project, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(pets)
    assert refreshed(project) == ["the data are now the version that pets.dvc names"]
    first = (project.root / "pets.dvc").read_bytes()
    (pets / "mouse").write_text("mouse")
    project.dvc("add", "-q", "pets")
    assert refreshed(project) == []
    (project.root / "pets.dvc").write_bytes(first)

    def killed(root: Path, *words: str) -> None:
        (pets / "dog").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(following.tracking, "dvc", killed)
        with pytest.raises(KeyboardInterrupt):
            refreshed(project)
    assert refreshed(project) == ["the data are now the version that pets.dvc names"]
    assert names(pets) == ["cat", "dog"]
    (pets / "dog").unlink()
    assert "changes of their own" in refreshed(project)[0]


def test_an_address_is_asked_and_only_what_is_new_is_fetched(
    project: Project, site: tuple[Path, http.server.ThreadingHTTPServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, server = site
    (folder / "x.csv").write_text("first")
    (project.root / "dvc.yaml").write_text(STAGES.format(data="x.csv"))
    project.dvc("import-url", "-q", f"http://127.0.0.1:{server.server_address[1]}/x.csv", "x.csv")
    assert refreshed(project) == []
    (folder / "x.csv").write_text("second")
    assert refreshed(project) == ["the source of x.csv.dvc has changed: the new data were fetched"]
    assert (project.root / "x.csv").read_text() == "second"
    (project.root / "x.csv").write_text("somebody's own")
    (folder / "x.csv").write_text("third")
    [sentence] = refreshed(project)
    assert sentence.startswith("the data of x.csv.dvc have changes of their own")
    assert (project.root / "x.csv").read_text() == "somebody's own"
    (project.root / "x.csv").write_text("second")
    server.shutdown()
    server.server_close()
    monkeypatch.setenv("HTTP_PROXY", "")
    [sentence] = refreshed(project)
    assert sentence.startswith("the source of x.csv.dvc could not be asked, so the run goes on with the data that are there")
    assert (project.root / "x.csv").read_text() == "second"


def test_a_pinned_address_is_asked_and_told_until_the_checksum_changes(
    tmp_path: Path, site: tuple[Path, http.server.ThreadingHTTPServer]
) -> None:
    folder, server = site
    (folder / "train.gz").write_text("first")
    url = f"http://127.0.0.1:{server.server_address[1]}"

    def looked(checksum: str) -> list[str]:
        source = f"{{name: idx, path: data, url: '{url}/', sha256: {{train.gz: '{checksum}'}}}}"
        (tmp_path / "params.yaml").write_text(f"prepare: {{source: {source}}}\n")
        (tmp_path / ".nasflow").mkdir(exist_ok=True)
        said: list[str] = []
        addresses.look(tmp_path, said.append)
        return said

    assert looked("aa") == looked("aa") == []
    (folder / "train.gz").write_text("second")
    told = [f"{url}/train.gz has another file than the one of prepare.source.sha256, which the run takes: put its checksum there to change"]
    assert looked("aa") == looked("aa") == told
    assert looked("bb") == looked("bb") == []
    server.shutdown()
    server.server_close()
    [sentence] = looked("bb")
    assert sentence.startswith(f"{url}/train.gz could not be asked whether its file has changed")


@pytest.mark.parametrize("source", ["digits", "{name: npz, path: x.npz}"])
def test_a_source_without_an_address_asks_nobody(tmp_path: Path, source: str) -> None:
    (tmp_path / "params.yaml").write_text(f"prepare: {{source: {source}}}\n")
    addresses.look(tmp_path, lambda line: pytest.fail(line))
    assert not (tmp_path / ".nasflow").exists()


def test_the_files_that_track_a_path_are_found(tmp_path: Path) -> None:
    (tmp_path / "data" / "flowers").mkdir(parents=True)
    for name in ("data.dvc", "data/flowers.dvc", "data/flowers/extra.csv.dvc", "other.dvc"):
        (tmp_path / name).touch()
    assert list(freshness.tracked_by(tmp_path, "data/flowers")) == ["data/flowers.dvc", "data.dvc", "data/flowers/extra.csv.dvc"]
    assert list(freshness.tracked_by(tmp_path, "elsewhere/x.csv")) == list(freshness.tracked_by(tmp_path, "/data")) == []
