"""Candidates are packed, timed by the script in the archive, ranked, chosen, trained and shipped, and no search runs again."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from recorded_project import SEARCH, TRAIN, inside, make_recorded_project, nasflow, run_stages
from ruamel.yaml import YAML
from small_images import one_thread
from stage_project import StageProject

from export.graph_hash import graph_hash
from flows import settings
from nas.architecture import Architecture
from nas.components import restore
from nas.data.dataset import Dataset
from nas.spaces.base import SearchSpace
from nas.tasks.base import Task
from nas.tasks.image_classification import ImageClassification

__all__ = ["one_thread"]
CANDIDATES = 2


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageProject]:
    """A project with what a search leaves, in the current folder; the first candidate is its winner."""
    root = tmp_path_factory.mktemp("ranked")
    with inside(root):
        made = make_recorded_project(root, train={**TRAIN, "seeds": [0]}, export={"int8": "never"})
        run_stages(["prepare"])
        task = ImageClassification().bind(Dataset.open(root / "results/prepare", ["fit"]).description)
        space = restore("spaces", SEARCH["space"])
        choices = space.choices(task)
        offered = [described(space, task, number, {one.name: one.options[-number] for one in choices}) for number in range(CANDIDATES)]
        folder = root / "results" / "search"
        folder.mkdir()
        constraints = {"latency_ms": "<= 1000", "file_bytes": "<= 1e9"}
        objective = {"metrics": ["accuracy"], "constraints": constraints}
        about = {"space": SEARCH["space"], "search": "0123", "metric": "accuracy", "sign": 1, "objective": objective}
        about |= {"strategy": {"name": "random"}, "ancestors": {}, "inputs": {}}
        (folder / "best.json").write_text(json.dumps({**offered[0], **about}))
        (folder / "candidates.json").write_text(json.dumps(offered))
        yield made


def described(space: SearchSpace, task: Task, number: int, architecture: dict[str, str]) -> dict[str, Any]:
    metrics = {"accuracy": 0.5, "file_bytes": 1.0, "latency_ms": 1.0}
    identity = {"trial": number, "architecture": architecture, "canonical": space.canonical(Architecture(architecture), task)}
    scores = {"score": 0.5, "confirm": 0.5, "metrics": {"select": metrics, "confirm": metrics}}
    return {**identity, **scores, "decisions": {}, "feasible": True, "graph": None}


def timed(folder: Path, threads: int) -> dict[str, Any]:
    """Run the archive's own script, as its user does."""
    command = [sys.executable, "-I", "benchmark.py", "--seconds", "0.01", "--threads", str(threads), "--output", f"{threads}.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads((folder / f"{threads}.json").read_text())
    return found


@pytest.fixture(scope="module")
def devices(project: StageProject) -> Path:
    """The archive, unpacked, with the times of two devices."""
    answer = nasflow("rank", "--pack", "candidates.zip")
    assert answer.code == 0, answer.errors
    with zipfile.ZipFile("candidates.zip") as archive:
        archive.extractall("device")
    folder = project.root / "device" / "candidates"
    for threads in (1, 2):
        timed(folder, threads)
    return folder


def test_the_archive_holds_every_candidate_and_is_the_same_again(project: StageProject, devices: Path) -> None:
    offered = project.read("search/candidates.json")
    index = json.loads((devices / "index.json").read_text())
    assert index["search"] == project.read("search/best.json")["search"]
    assert sorted(index["models"]) == sorted(f"trial-{one['trial']}.onnx" for one in offered)
    for one in offered:
        path = devices / "models" / f"trial-{one['trial']}.onnx"
        entry = index["models"][path.name]
        assert (entry["trial"], entry["canonical"]) == (one["trial"], one["canonical"])
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry["graph"] == graph_hash(path)
        told = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        assert told["weights"] == "typical, for timing only"
    before = (project.root / "candidates.zip").read_bytes()
    assert nasflow("rank", "--pack", "again.zip").code == 0
    assert (project.root / "again.zip").read_bytes() == before


def test_what_exports_to_another_graph_than_was_measured_is_not_packed(project: StageProject) -> None:
    path = project.root / "results/search/candidates.json"
    before = path.read_text()
    path.write_text(before.replace('"graph": null', f'"graph": "{"0" * 64}"'))
    answer = nasflow("rank", "--pack", "other.zip")
    path.write_text(before)
    assert (answer.code, answer.errors.count("\n")) == (1, 1)
    assert "but the search measured 0000000000000000: code, libraries or settings changed since" in answer.errors
    assert not (project.root / "other.zip").exists()


def test_the_script_times_all_of_them_in_one_file(devices: Path) -> None:
    for threads in (1, 2):
        found = json.loads((devices / f"{threads}.json").read_text())
        assert (found["format"], len(found["models"])) == (2, CANDIDATES)
        for model in found["models"]:
            [one] = model["measurements"]
            assert one["threads"] == threads
            assert 0 < one["min_ms"] <= one["p50_low_ms"] <= one["p50_ms"] <= one["p50_high_ms"]


def test_an_altered_file_is_refused_on_the_device_and_here(project: StageProject, devices: Path) -> None:
    [path, *_] = sorted((devices / "models").glob("*.onnx"))
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    command = [sys.executable, "-I", "benchmark.py", "--seconds", "0", "--output", "altered.json"]
    done = subprocess.run(command, cwd=devices, capture_output=True, text=True, timeout=60)
    path.write_bytes(content)
    assert (done.returncode, "is not the file in index.json" in done.stderr) == (2, True)
    text = (devices / "1.json").read_text()
    (devices / "altered.json").write_text(text.replace(hashlib.sha256(content).hexdigest(), "e" * 64))
    answer = nasflow("rank", "--measured", str(devices / "altered.json"))
    assert (answer.code, answer.errors.count("\n")) == (1, 1)
    assert "altered.json has times of a file with SHA-256 eeeeeeeeeeeeeeee, which is no candidate" in answer.errors


def test_the_choice_is_trained_and_shipped_without_a_search(project: StageProject, devices: Path) -> None:
    files = [str(devices / f"{threads}.json") for threads in (1, 2)]
    ranked = json.loads(nasflow("rank", "--measured", *files, "--json").output)
    assert [row["broken"] for row in ranked["ranking"]] == [[]] * CANDIDATES
    slow = project.read("search/best.json")["trial"]  # as if only the other candidate were fast enough on this device
    answer = nasflow("rank", "--measured", *files, "--without", str(slow), "--choose")
    assert answer.code == 0, answer.errors
    chosen = settings.read(project.root).export.measured
    assert chosen is not None
    assert [one.threads for one in chosen.devices] == [1, 2]
    run_stages(["train", "export"])
    manifest = project.read("export/manifest.json")
    assert manifest["metadata"]["trial"] == str(chosen.trial) != str(slow)
    assert manifest["graph"] == chosen.graph
    assert manifest["ships"] == "float"
    worst = max(one.latency_ms for one in chosen.devices)
    assert manifest["constraints"]["latency_ms"].startswith(f"{worst:g} <= 1000, measured on {chosen.devices[0].device}")
    assert manifest["measured_elsewhere"] == [one.model_dump() for one in chosen.devices]
    settings.read(project.root, [f"train.trial={slow}"])
    answer = nasflow("stage", "train")
    assert (answer.code, f"export.measured is about trial {chosen.trial} of search" in answer.errors) == (1, True)


def test_what_a_choice_writes_is_read_by_no_search() -> None:
    stages = YAML(typ="safe").load((Path(__file__).parents[2] / "dvc.yaml").read_text())["stages"]
    written = ("train.trial", "export.measured")
    readers = {
        name for name, stage in stages.items() for key in stage.get("params", []) if any(f"{one}.".startswith(f"{key}.") for one in written)
    }
    assert readers == {"train", "export"}
