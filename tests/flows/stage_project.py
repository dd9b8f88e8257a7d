"""The smallest project in which stages run as the command runs them: params.yaml, dvc.yaml with the data, DVC without Git."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from typer.testing import CliRunner

from flows.cli import app

SEARCH = {
    "space": {"name": "chain", "widths": [[8], [16]], "blocks": 1, "kernels": [3], "expansions": [1]},
    "strategy": "random",
    "evaluator": "scratch",
    "preflight": False,
}


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True)
class StageProject:
    """A project folder; the current folder must be it when a stage runs."""

    root: Path

    def choose(self, source: dict[str, Any], **sections: dict[str, Any]) -> None:
        """Write params.yaml, and name the source's path in dvc.yaml as `nasflow check` does."""
        yaml = YAML(typ="safe")
        params = {"prepare": {"task": "image_classification", "source": source}, "search": SEARCH, **sections}
        yaml.dump(params, self.root / "params.yaml")
        paths = [source["path"]] if "path" in source else []
        prepare = {"cmd": "nasflow stage prepare", "deps": paths, "params": ["prepare"], "outs": ["results/prepare"]}
        reads = ["results/prepare/dataset.json", "results/train/model.safetensors"]
        export = {"cmd": "nasflow stage export", "deps": reads, "params": ["export"], "outs": ["results/export"]}
        yaml.dump({"stages": {"prepare": prepare, "export": export}}, self.root / "dvc.yaml")

    def stage(self, name: str) -> Answer:
        """Run one stage as `nasflow stage NAME` does."""
        result = CliRunner().invoke(app, ["stage", name])
        assert result.exception is None or isinstance(result.exception, SystemExit), f"{result.exception!r} would be a traceback"
        return Answer(result.exit_code, result.stdout, result.stderr)

    def read(self, path: str) -> Any:
        """A JSON file below results."""
        return json.loads((self.root / "results" / path).read_text())

    def content(self, folder: str) -> dict[str, bytes]:
        """Every file below a folder of results."""
        files = (path for path in sorted((self.root / "results" / folder).rglob("*")) if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}

    def left_behind(self) -> list[str]:
        """Files below .nasflow that are neither locks nor shown progress, measurements, or the note of a refusal."""
        work = self.root / ".nasflow"
        files = (path.relative_to(work) for path in sorted(work.rglob("*")) if path.is_file())
        return [str(path) for path in files if path.name != "lock" and path.parts[0] not in ("progress", "measurements", "refused.json")]


def make_stage_project(root: Path) -> StageProject:
    """Make the project in a folder that exists."""
    from dvc.repo import Repo

    Repo.init(str(root), no_scm=True).close()
    return StageProject(root)
