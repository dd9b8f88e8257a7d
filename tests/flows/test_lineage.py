"""The record of what a stage read equals what DVC writes, and every difference becomes a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_project import Project

from flows import lineage


def locked(root: Path, stage: str) -> dict[str, Any]:
    """A stage's entry of the real dvc.lock in the form of a record."""
    return lineage._as_record(stage, lineage._locked(root)[stage])


def test_record_equals_what_dvc_writes(project: Project) -> None:
    code = project.root / "code"
    for name in ("a.py", "deep/er/b.py", "deep/c.txt", "__pycache__/a.pyc", "ä ö.txt"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    (project.root / ".dvcignore").write_text("__pycache__/\n")
    (project.root / "params.yaml").write_text("one: {rate: 1e-3, list: [1, 2.0], nothing: null}\nplace: code/deep\n")
    deps = "[stage.py, code, '${place}']"
    (project.root / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: echo x > x\n    deps: {deps}\n    params: [one]\n    outs: [x]\n")
    record = lineage.read(project.root, "one")
    project.dvc("repro", "-q")
    assert record == locked(project.root, "one")
    assert record["params"] == {"one": {"rate": 0.001, "list": [1, 2.0], "nothing": None}}
    assert set(record["deps"]) == {"stage.py", "code", "code/deep"}
    (code / "__pycache__/b.pyc").write_text("new")
    assert lineage.changes(project.root, record) == []
    (code / "new.py").write_text("new")
    assert [sentence.split(" was ")[0] for sentence in lineage.changes(project.root, record)] == ["one: code"]


def test_read_names_what_is_missing(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match=r"'search' reads results/prepare/value.txt, which does not exist: run the stages before it first"):
        lineage.read(project.root, "search")
    with pytest.raises(ValueError, match="'serach' reads cannot be recorded"):
        lineage.read(project.root, "serach")
    with pytest.raises(ValueError, match=r"not inside of a DVC repository|not a DVC"):
        lineage.read(tmp_path_factory.mktemp("elsewhere"), "search")


def test_commit_of_foreign_outputs_is_seen(project: Project) -> None:
    project.write(prepare={"steps": 1, "nested": {"seed": 1}})
    assert lineage.compare(project.root) == []
    project.dvc("repro", "-q", "prepare")
    assert lineage.compare(project.root) == []
    project.write(prepare={"steps": 1, "nested": {"seed": 2}})
    project.dvc("commit", "-q", "-f", "prepare")
    cause = "it was changed while the stage ran, or by `dvc commit`."
    assert lineage.compare(project.root) == [f"prepare: setting prepare.nested.seed was 1 when the stage read it, dvc.lock says 2: {cause}"]
    (project.root / "results/prepare/lineage.json").unlink()
    assert "is missing" in lineage.verify(project.root, "prepare")[0]


def test_difference_of_data_and_of_kinds() -> None:
    was = {"stage": "s", "params": {"s": {"a": 1, "b": {"c": True}}}, "deps": {"x": "1", "y": "2"}}
    now = {"stage": "s", "params": {"s": {"a": 1.0, "b": {}}}, "deps": {"x": "3"}}
    beginnings = [sentence.split(" when")[0] for sentence in lineage._differences(was, now, "is now")]
    assert beginnings == ["s: setting s.a was 1", "s: setting s.b.c was true", "s: x was 1 (md5)", "s: y was 2 (md5)"]


def test_stages_it_cannot_order_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    foreach: [1]\n    do: {cmd: echo}\n")
    with pytest.raises(ValueError, match="'one' uses foreach"):
        lineage.declared(tmp_path)
    with pytest.raises(FileNotFoundError):
        lineage.declared(tmp_path / "no")


@pytest.mark.parametrize(("one", "other", "expected"), [("a/b", "a", True), ("a", "a/b", True), ("a/bc", "a/b", False), ("./a", "a", True)])
def test_overlap(one: str, other: str, expected: bool) -> None:
    assert lineage.overlap(one, other) is expected


def test_no_lineage_declared_means_nothing_to_compare(project: Project) -> None:
    (project.root / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo x > x\n    outs: [x]\n")
    assert lineage.verify(project.root, "one") == []
    assert json.loads(json.dumps(lineage.read(project.root, "one"))) == {"stage": "one", "params": {}, "deps": {}}
