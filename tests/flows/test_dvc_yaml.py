"""dvc.yaml names every file that can change a stage's results: forgotten code is how stale models come about."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_project import Project

from flows import lineage, watched

ROOT = Path(__file__).parents[2]
STAGES = tuple(lineage.declared(ROOT))
# Rooms that are looked up by name at run time, and what their entries import where they use it; no import of the stage shows them.
_NETWORKS = {"nas/spaces", "nas/networks", "nas/tasks"}
BY_NAME = {"prepare": {"nas/data/sources"}, "search": {*_NETWORKS, "nas/strategies"}, "train": _NETWORKS, "export": _NETWORKS}
# How work is written, started and refused; and how data were prepared, which later stages see in the prepared data.
INDIFFERENT = {
    "nas/atomic.py",
    "nas/components.py",
    "nas/load.py",
    "nas/fork_server.py",
    "nas/process_start.py",
    "nas/processes.py",
    "nas/workers.py",
    "nas/data/digest.py",
    "nas/data/errors.py",
    "nas/data/splits.py",
}


def imported(path: Path) -> set[str]:
    """Files of ours that a file imports, relative to the repository; flows is the edge and leaves results alone."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = {f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] in ("nas", "export")}
    return {name for name in files if (ROOT / name).exists()}


def reached(stage: str) -> set[str]:
    """Files of ours that a stage imports, directly or not."""
    found, new = set(), {f"flows/stages/{stage}.py"}
    while new:
        found |= new
        new = {name for path in new for name in imported(ROOT / path)} - found - INDIFFERENT
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_imported_code_is_a_dependency(stage: str) -> None:
    declared = lineage.declared(ROOT)[stage]
    needed = reached(stage) | BY_NAME.get(stage, set())
    assert sorted(path for path in needed if not any(Path(path).is_relative_to(read) for read in declared.reads)) == []


def test_what_is_in_the_bundle_touches_export_only() -> None:
    stages = lineage.declared(ROOT).items()
    for name, touched in (("export/predict.py", ["export"]), ("export/bundle.py", ["export"]), ("export/to_onnx.py", ["search", "export"])):
        assert [stage for stage, declared in stages if any(lineage.overlap(name, read) for read in declared.reads)] == touched


def test_git_takes_the_metrics_and_no_other_result(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=lambda folder, names: [name for name in names if name != ".gitignore"])
    for stage in lineage.declared(ROOT).values():
        for path in stage.writes:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            if not (tmp_path / path).suffix:
                (tmp_path / path).mkdir()
                (tmp_path / path / "data.npy").touch()
            else:
                (tmp_path / path).touch()
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["results/.gitignore", "results/export/metrics.json", "results/search/metrics.json", "results/train/metrics.json"]


def test_a_damaged_declaration_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {\n")
    readings = (lineage.declared, watched.paths, lambda root: watched.watch(root, ["data"]))
    for reading in readings:
        with pytest.raises(ValueError, match=r"^dvc\.yaml is damaged \(not valid YAML: [^\n]*\): restore it from Git with `git checkout"):
            reading(tmp_path)


def test_the_users_data_are_watched(project: Project) -> None:
    shutil.copy(ROOT / "dvc.yaml", project.root)
    before = (project.root / "dvc.yaml").read_text()
    assert not watched.watch(project.root, [])
    assert watched.watch(project.root, ["data/a.csv", "data/images"])
    assert not watched.watch(project.root, ["data/a.csv", "data/images"])
    assert lineage.declared(project.root)["prepare"].reads[-2:] == ("data/a.csv", "data/images")
    assert watched.watch(project.root, ["data/b.csv"])
    assert lineage.declared(project.root)["prepare"].reads[-2:] == ("nas/data", "data/b.csv")
    assert project.dvc("stage", "list", "--name-only").split() == list(STAGES)  # still what DVC accepts
    assert watched.watch(project.root, [])
    assert (project.root / "dvc.yaml").read_text() == before
    assert watched.watch(project.root, ["data/table.csv"], "search")
    assert lineage.declared(project.root)["search"].reads[-1] == "data/table.csv"
    assert lineage.declared(project.root)["prepare"].reads[-1] == "nas/data"
    assert watched.watch(project.root, [], "search")
    assert (project.root / "dvc.yaml").read_text() == before


def test_unwatched_data_are_named() -> None:
    assert watched.unwatched({"deps": {"a": "1"}}, ["a", "b"]) == ["b"]
