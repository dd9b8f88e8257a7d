"""The four stages to kill, each as a function in a small project: with the lock, the run's folder and the publishing of results."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, final

from killing import Killer, Whole
from ruamel.yaml import YAML

from flows import lineage, settings

STAGES = ("prepare", "search", "train", "export")
_RECIPE = {"batch_size": 32, "learning_rate": 0.05, "ema": 0.9}
_PARAMS = {
    "prepare": {"task": "image_classification", "source": "digits", "splits": {"limit": 160}},
    "search": {
        "trials": 6,
        "workers": 2,
        "measure": ["latency_ms"],
        "space": {"name": "chain", "widths": [[4, 6, 8]], "blocks": 2, "kernels": [1, 3], "expansions": [1, 2]},
        "strategy": {"name": "evolution", "population": 3, "tournament": 2},
        "evaluator": {"name": "scratch", "steps": 12, "device": "cpu", "recipe": _RECIPE},
    },
    "train": {"seeds": [0, 1], "workers": 2, "epochs": 5, "device": "cpu", "recipe": _RECIPE},
    "export": {"exporter": "torchscript"},
}
_READS = {
    "prepare": [],
    "search": ["results/prepare/dataset.json"],
    "train": ["results/prepare/dataset.json", "results/search/best.json"],
    "export": ["results/prepare/dataset.json", "results/train/model.safetensors"],
}


@final
@dataclass(frozen=True)
class StageJob:
    """A stage that begins in a copy of `template`, a project in which the stages before it have run."""

    template: Path
    stage: str

    def __str__(self) -> str:
        return f"stage {self.stage}"

    def run(self, folder: Path, ready: Callable[[], None]) -> None:
        """Begin or continue, as `nasflow stage` does. Raises AssertionError when a kill has left half of the results."""
        root, results = folder / "project", folder / "project" / "results" / self.stage
        assert not results.exists() or (results / "lineage.json").exists(), f"{results} was published in part"
        if not root.exists():
            shutil.copytree(self.template, folder / "copy", symlinks=True)
            (folder / "copy").rename(root)
        os.chdir(root)
        record = lineage.read(root, self.stage)
        chosen = settings.read(root)
        ready()
        import_module(f"flows.stages.{self.stage}").run(root, chosen, record)

    def content(self, folder: Path) -> Mapping[str, Any]:
        """Every published file, byte for byte, but the one that tells where and when."""
        results = folder / "project" / "results" / self.stage
        files = (path for path in sorted(results.rglob("*")) if path.is_file() and path.name != "lineage.json")
        return {str(path.relative_to(results)): path.read_bytes() for path in files}


def make_first_template(root: Path) -> None:
    """Make a project in which no stage has run, in a folder that exists."""
    from dvc.repo import Repo

    Repo.init(str(root), no_scm=True).close()
    # Copies of the project share what was measured, which belongs to the machine: else one file would have several latencies.
    measured = root.with_name(f"{root.name}-measurements")
    measured.mkdir()
    (root / ".nasflow").mkdir()
    (root / ".nasflow" / "measurements").symlink_to(measured, target_is_directory=True)
    yaml = YAML(typ="safe")
    stages = {
        name: {"cmd": f"nasflow stage {name}", "deps": _READS[name], "params": [name], "outs": [f"results/{name}"]} for name in STAGES
    }
    yaml.dump(_PARAMS, root / "params.yaml")
    yaml.dump({"stages": stages}, root / "dvc.yaml")


def run_stages(folder: Path, killer: Killer) -> list[tuple[StageJob, Whole]]:
    """Run the four stages, each in the project that the one before has left; every job comes with what came of it."""
    template = folder / "none"
    template.mkdir(parents=True)
    make_first_template(template)
    made: list[tuple[StageJob, Whole]] = []
    for stage in STAGES:
        job = StageJob(template, stage)
        made.append((job, killer.whole(job, folder / stage)))
        template = folder / stage / "project"
    return made
