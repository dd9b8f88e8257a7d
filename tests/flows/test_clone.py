"""What a colleague has: a fresh clone and a remote. Nothing runs again there, and every model can say why it is what it is."""

import contextlib
import csv
import io
import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from moto.server import ThreadedMotoServer
from real_project import RealProject
from shared_project import cloned, committed

from flows.why import tell
from flows.why.chain import Chain, State

pytestmark = pytest.mark.end_to_end
MODEL = "results/export/model.onnx"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RealProject:
    """The project that ran, was committed and pushed."""
    return committed(tmp_path_factory, tmp_path_factory.mktemp("made") / "project")


@pytest.fixture(scope="module")
def clone(made: RealProject, tmp_path_factory: pytest.TempPathFactory) -> RealProject:
    """A clone of it that has pulled from the local remote; tests leave it as it was."""
    project = cloned(made, tmp_path_factory.mktemp("clone") / "project")
    project.run("dvc", "pull")
    return project


@pytest.fixture
def changed(clone: RealProject) -> Iterator[Callable[[str], Path]]:
    """Names a file of the clone that a test changes or removes; it is put back."""
    before: dict[Path, bytes] = {}

    def touch(name: str) -> Path:
        path = clone.root / name
        before[path] = path.read_bytes()
        path.unlink()  # what DVC links into its cache must not be written through
        path.write_bytes(before[path])
        return path

    yield touch
    for path, content in before.items():
        path.write_bytes(content)


def why(project: RealProject, path: str = MODEL) -> Chain:
    return tell.why(project.root, project.root / path)


def broken(chain: Chain) -> dict[str, list[str]]:
    return {link.name: [*link.broken] for link in chain.links if link.state == State.BROKEN}


def test_a_fresh_clone_has_nothing_to_run_and_its_model_tells_the_whole_chain(clone: RealProject) -> None:
    assert clone.run("dvc", "repro").stdout.count("didn't change, skipping") == 5
    assert json.loads(clone.run("dvc", "status", "--json").stdout) == {}
    assert not (clone.root / ".nasflow").exists() or not list((clone.root / ".nasflow").glob("search-*"))
    done = clone.run("nasflow", "why")
    assert f"{MODEL}: the chain is whole, from the file to the commit" in done.stdout
    assert "results of a run" in done.stdout
    told = json.loads(clone.run("nasflow", "why", "--json", "--picture", "why.svg").stdout)
    (clone.root / "why.svg").unlink()
    assert [link["state"] for link in told["links"]] == ["holds"] * 12
    best = json.loads((clone.root / "results/search/best.json").read_text())
    assert told["ancestors"][0]["trial"] == best["trial"]
    manifest = json.loads((clone.root / "results/export/manifest.json").read_text())
    metadata, bill = manifest["metadata"], json.loads((clone.root / "results/export/provenance.cdx.json").read_text())
    assert (metadata["strategy"], json.loads(metadata["ancestors"])) == ("evolution", best["ancestors"])
    assert metadata["train"] == json.loads((clone.root / "results/train/architecture.json").read_text())["train"]
    assert "provenance.cdx.json" in manifest["files"]
    [workflow] = bill["formulation"][0]["workflows"]
    runs = [f"search-{metadata['search']}", f"train-{metadata['train']}"]
    assert [task["uid"] for task in workflow["tasks"]] == ["prepare", *runs, "export"]
    facts = {link["name"]: link["facts"] for link in told["links"]}
    assert facts["architecture"] == best["architecture"]
    assert facts["search"]["run"] == f"search-{best['search']}"


def test_data_and_results_go_through_s3(made: RealProject, tmp_path: Path) -> None:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"))
        person = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        project = RealProject(made.root, {**made.environment, **person})
        with contextlib.ExitStack() as stack:
            stack.callback(project.run, "git", "checkout", "-q", ".dvc/config")
            project.run("dvc", "remote", "add", "-d", "-f", "cloud", "s3://bucket/nasflow")
            project.run("dvc", "remote", "modify", "cloud", "endpointurl", address)
            project.run("dvc", "push")
            clone = cloned(project, tmp_path / "project")
            shutil.copy(project.root / ".dvc/config", clone.root / ".dvc/config")
        clone.run("dvc", "pull", "results/export/model.onnx", "results/export/manifest.json", "results/prepare")
        assert (clone.root / MODEL).read_bytes() == (made.root / MODEL).read_bytes()
        assert (clone.root / "results/prepare/dataset.json").read_bytes() == (made.root / "results/prepare/dataset.json").read_bytes()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("path", "link"),
    [
        (MODEL, "file"),
        ("results/export/manifest.json", "export"),
        ("results/export/provenance.cdx.json", "export"),
        ("results/export/lineage.json", "export"),
        ("results/train/architecture.json", "train"),
        ("results/train/model.safetensors", "train"),
        ("results/train/lineage.json", "train"),
        ("results/train/details.json", "train"),
        ("results/search/best.json", "search"),
        ("results/search/candidates.json", "search"),
        ("results/search/trials.csv", "trial"),
        ("results/search/trials.csv", "search"),
        ("results/search/lineage.json", "search"),
        ("results/prepare/dataset.json", "data"),
        ("results/prepare/fit_inputs.npy", "data"),
        ("results/prepare/test_targets.npy", "data"),
    ],
)
def test_whatever_is_removed_or_altered_is_named(clone: RealProject, changed: Callable[[str], Path], path: str, link: str) -> None:
    place = changed(path)
    content = place.read_bytes()
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = broken(why(clone))
    assert any(path in sentence for sentence in found.get(link, [])) or link == "trial", found
    if path == MODEL:
        place.unlink()
        with pytest.raises(ValueError, match="does not exist: bring it back with `dvc pull`"):
            why(clone)
        return
    place.unlink()
    assert any(path in sentence and "missing" in sentence for sentence in broken(why(clone))[link]), path


@pytest.mark.parametrize(
    ("path", "edit", "link", "words"),
    [
        (
            "dvc.lock",
            ("md5: {train_weights}", "md5: ffffffffffffffffffffffffffffffff"),
            "export",
            "export read results/train/model.safetensors as",
        ),
        ("dvc.lock", ("epochs: 3", "epochs: 4"), "train", "setting train.epochs was 3 when the stage read it, dvc.lock says 4"),
        ("params.yaml", ("epochs: 3", "epochs: 5"), "settings", "train ran with another train.epochs than params.yaml has"),
        ("nas/trial.py", ("import", "import  "), "code", "nas/trial.py in the working copy is not what the stages ran"),
    ],
)
def test_what_is_changed_beside_the_results_is_named(
    clone: RealProject, changed: Callable[[str], Path], path: str, edit: tuple[str, str], link: str, words: str
) -> None:
    lock = changed("dvc.lock")
    lock.write_text(lock.read_text() + "\n")  # another one than the commit has, so the working copy is what is compared
    place = changed(path) if path != "dvc.lock" else lock
    weights = tell.gather(clone.root).locked["train"].writes["results/train/model.safetensors"]
    text, before = place.read_text(), edit[0].format(train_weights=weights)
    assert before in text
    place.write_text(text.replace(before, edit[1], 1))
    found = why(clone)
    assert any(words in sentence for sentence in broken(found)[link]), broken(found)
    assert {one.name: one.state for one in found.links}["commit"] == State.OPEN


def test_later_edits_of_code_and_settings_say_nothing_against_the_model(clone: RealProject, changed: Callable[[str], Path]) -> None:
    for name in ("nas/trial.py", "params.yaml"):
        path = changed(name)
        path.write_text(path.read_text() + "\n# later\n")
    found = why(clone)
    assert found.state == State.HOLDS
    assert "2 files changed since" in dict(found.links[-1].facts)["working copy"]


def test_copies_and_variants_are_found_by_their_bytes_and_others_are_told_apart(clone: RealProject, tmp_path: Path) -> None:
    copy = tmp_path / "anything.bin"
    shutil.copy(clone.root / MODEL, copy)
    assert tell.why(clone.root, copy).state == State.HOLDS
    [variant] = (clone.root / "results/export/variants").glob("*.onnx")
    assert "a variant that does not ship" in tell.why(clone.root, variant).links[0].title
    copy.write_text("hello")
    with pytest.raises(ValueError, match="is no file that nasflow exported: name one that this project did"):
        tell.why(clone.root, copy)
    with pytest.raises(ValueError, match=r"holds no dvc\.lock"):
        tell.why(tmp_path, copy)


def test_a_model_of_an_earlier_commit_is_sent_there_and_a_stranger_is_told(
    clone: RealProject, changed: Callable[[str], Path], tmp_path: Path
) -> None:
    older = tmp_path / "older.onnx"
    shutil.copy(clone.root / MODEL, older)
    model = onnx.load(older)
    next(entry for entry in model.metadata_props if entry.key == "trial").value = "77"
    onnx.save(model, tmp_path / "stranger.onnx")
    with pytest.raises(ValueError, match="says that it is trial 77 of search"):
        tell.why(clone.root, tmp_path / "stranger.onnx")
    manifest = changed("results/export/manifest.json")
    named = json.loads(manifest.read_text())
    named |= {"sha256": "0" * 64, "variants": {}, "metadata": {**named["metadata"], "trial": "78"}}
    manifest.write_text(json.dumps(named))
    commit = clone.run("git", "log", "-1", "--format=%h").stdout.strip()
    with pytest.raises(ValueError, match=f"was exported by the results of commit {commit}"):
        tell.why(clone.root, older)


def test_without_data_the_rest_is_told_and_said_to_be_open(made: RealProject, tmp_path: Path) -> None:
    clone = cloned(made, tmp_path / "project")
    for stage in ("export", "train", "search"):
        shutil.copytree(made.root / "results" / stage, clone.root / "results" / stage, dirs_exist_ok=True)
    found = why(clone)
    assert (found.state, found.code) == (State.OPEN, 0)
    assert [link.name for link in found.links if link.state != State.HOLDS] == ["data"]
    assert found.sentence() == f"{MODEL}: nothing is broken, but data could not be checked as a whole"


def test_the_model_is_registered_and_fetched_by_its_name(made: RealProject, tmp_path: Path) -> None:
    made.run("gto", "register", "classifier")
    assert made.run("git", "tag").stdout.split() == ["classifier@v0.0.1"]
    made.run("dvc", "artifacts", "get", str(made.root), "classifier", "-o", str(tmp_path / "fetched.onnx"))
    assert (tmp_path / "fetched.onnx").read_bytes() == (made.root / MODEL).read_bytes()


def test_a_queue_of_experiments_goes_over_a_grid_of_strategies(made: RealProject) -> None:
    small = ["search.trials=2", "search.workers=1", "search.evaluator.steps=2", "search.preflight=false", "search.measure=[]"]
    settings = [word for setting in ["search.strategy=random,local", *small] for word in ("-S", setting)]
    made.run("dvc", "exp", "run", "--queue", *settings, "search")
    made.run("dvc", "exp", "run", "--run-all", "-j", "1")
    rows = list(csv.DictReader(io.StringIO(made.run("dvc", "exp", "show", "--csv").stdout)))
    found = {row["search.strategy"]: row for row in rows if row["Experiment"]}
    assert set(found) == {"random", "local"}
    assert {row["trials"] for row in found.values()} == {"2"}
    assert all(0 <= float(row["select"]) <= 1 for row in found.values())
    assert json.loads(made.run("dvc", "status", "--json").stdout) == {}, "a queue leaves the working copy alone"
