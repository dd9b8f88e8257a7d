"""A small project with all stages, run in this process, whose results can be verified."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from stage_project import Answer, StageProject, make_stage_project
from typer.testing import CliRunner

from flows.cli import app
from flows.run_folder import hold
from nas.journal import FileJournal
from nas.trial import Trial

RECIPE = {"batch_size": 16, "learning_rate": 0.05, "augmentation": {"shift": 1}}
SEARCH: dict[str, Any] = {
    "trials": 4,
    "finalists": 1,
    "preflight": False,
    "space": {"name": "chain", "widths": [[4, 8]], "blocks": 1, "kernels": [3], "expansions": [1]},
    "strategy": {"name": "halving", "strategy": "random", "eta": 2, "rungs": [3]},
    "evaluator": {"name": "scratch", "steps": 6, "recipe": RECIPE, "device": "cpu", "limits": {"seconds": None, "memory": None}},
}
TRAIN = {"seeds": [0, 1], "workers": 1, "epochs": 1, "recipe": RECIPE, "device": "cpu"}
_PARTS = ("inputs", "targets")
_READS = {
    "prepare": (),
    "search": ("nas/code.py", *(f"results/prepare/{split}_{part}.npy" for split in ("fit", "select", "confirm") for part in _PARTS)),
    "train": (
        *("nas/code.py", "results/search/best.json"),
        *(f"results/prepare/{split}_{part}.npy" for split in ("fit", "select", "confirm", "test") for part in _PARTS),
    ),
    "export": (
        *("export/code.py", "results/train/architecture.json", "results/train/details.json", "results/train/model.safetensors"),
        *(f"results/prepare/test_{part}.npy" for part in _PARTS),
    ),
    "report": ("results/export/manifest.json",),
}


def write_settings(root: Path, **sections: Any) -> None:
    """Write params.yaml, with other sections where they are given."""
    usual = {"search": SEARCH, "train": TRAIN, "export": {"int8": "never"}}
    prepare = {"task": "image_classification", "source": {"name": "digits"}, "splits": {"limit": 80}}
    YAML(typ="safe").dump({"prepare": prepare, **usual, **sections}, root / "params.yaml")


def make_recorded_project(root: Path, **sections: Any) -> StageProject:
    """Make the project in a folder that exists; nothing is run."""
    project = make_stage_project(root)
    for room in ("nas", "export"):  # what stands for the code of the library, to be edited
        (root / room).mkdir()
        (root / room / "code.py").write_text("first\n")
    stages = {}
    for name, reads in _READS.items():
        before = [] if name == "prepare" else ["results/prepare/dataset.json"]
        params = [*([name] if name != "report" else []), *(["prepare.task"] if name in ("search", "train") else [])]
        stages[name] = {
            "cmd": f"nasflow stage {name}",
            "deps": [*before, *reads],
            "params": params,
            "outs": [f"results/{name}/lineage.json"],
        }
    YAML(typ="safe").dump({"stages": stages}, root / "dvc.yaml")
    write_settings(root, **sections)
    return project


def nasflow(*words: str) -> Answer:
    """Run a command in the current folder, in this process."""
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), f"{result.exception!r} would be a traceback"
    return Answer(result.exit_code, result.stdout, result.stderr)


def run_stages(names: Sequence[str]) -> None:
    """Run stages in the current folder."""
    for name in names:
        answer = nasflow("stage", name)
        assert answer.code == 0, answer.output + answer.errors


def record(project: StageProject, evaluator: dict[str, Any], trials: list[Trial], **others: Any) -> Path:
    """Put a search into the project as if it had been run."""
    [before] = (path for path in (project.root / ".nasflow").glob("search-*"))
    inputs = json.loads((before / "inputs.json").read_text())
    entry = {**inputs["settings"][-1], "strategy": {"name": "random"}, "evaluator": evaluator}
    with hold(project.root, "search", {**inputs, "settings": [entry], **others}) as run, FileJournal(run.path, fingerprint="x") as journal:
        journal.resume()
        for trial in trials:
            journal.append(trial)
        journal.commit([], {})
    best = project.root / "results" / "search" / "best.json"
    best.write_text(json.dumps({**json.loads(best.read_text()), "search": run.fingerprint}))
    return run.path


def state_of(folder: Path) -> dict[str, Any]:
    """What state.json of a run says."""
    content: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return content


@contextlib.contextmanager
def inside(root: Path) -> Iterator[None]:
    """Work in a folder, as a person does; nothing of the terminal's environment reaches what is compared."""
    with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
        patch.delenv("NASFLOW_TRACEBACK", raising=False)
        yield
