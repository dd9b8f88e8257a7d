"""A temporary copy of this repository as a project of its own, with small settings, driven by the real commands."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows import settings

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SMALL = ["search.trials=4", "search.strategy={name: evolution, population: 2, tournament: 1}", "search.evaluator.steps=30"]
SMALL += ["train.epochs=3", "train.seeds=[0, 1]", "train.workers=1", "export.int8=never"]


@dataclass(frozen=True)
class RealProject:
    """A folder under Git and DVC, and the environment of a person who works in it."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment; its output is in the failure, when it fails."""
        done = subprocess.run(self.words(*command), cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=240)
        assert not check or done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def words(self, *command: str) -> list[str]:
        """The command with the full path of its program."""
        program = BIN / command[0]
        return [str(program) if program.exists() else command[0], *command[1:]]

    def set(self, *overrides: str) -> None:
        """Change params.yaml."""
        settings.read(self.root, overrides)

    def content(self, *folders: str) -> dict[str, bytes]:
        """Every published file by its path, but those that tell when or by what path it was made."""
        files = (path for folder in folders for path in sorted((self.root / "results" / folder).rglob("*")) if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files if path.name not in (".gitignore", "lineage.json")}


def make_real_project(folder: Path) -> RealProject:
    """Copy what Git would commit, make a repository of it, and choose small settings."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    hidden = ("PREFECT_", "DVC_", "NASFLOW_", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    person = {
        f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in (("NAME", "test"), ("EMAIL", "test@example.org"))
    }
    environment = {**kept, **person, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    project = RealProject(folder, environment)
    project.set(*SMALL)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        project.run("git", *words)
    return project
