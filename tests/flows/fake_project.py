"""A small project with the real shape: four chained stages, real Git, real DVC."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

STAGE = """
import json, os, sys, time
from pathlib import Path
from flows import lineage, processes

processes.die_with_parent()
root, name = Path.cwd(), sys.argv[1]
record = lineage.read(root, name)
settings = record["params"][name]
results, shown = root / "results" / name, root / ".nasflow" / "progress"
results.mkdir(parents=True, exist_ok=True)
shown.mkdir(parents=True, exist_ok=True)
print(name, "starts")
if settings.get("wrong"):
    raise ValueError(f"{name}.wrong: true is refused")
steps = settings.get("steps", 0)
with (root / ".nasflow" / f"{name}.journal").open("a") as journal:
    for number in range(steps):
        print(f"{os.getpid()} {number}", file=journal, flush=True)
        row = {"trial": number, "score": number / steps}
        text = json.dumps({"done": number + 1, "total": steps, "text": f"trial {number}", "table": [row]})
        (shown / "new").write_text(text)
        os.replace(shown / "new", shown / f"{name}.json")
        time.sleep(0.1)
(results / "value.txt").write_text(json.dumps(settings))
(results / "summary.json").write_text(json.dumps({"title": name, "lines": [["steps", steps]]}))
(results / "lineage.json").write_text(json.dumps(record))
"""
STAGES = ("prepare", "search", "train", "export")


@dataclass(frozen=True)
class Project:
    """A project folder and the environment its commands run in."""

    root: Path
    environment: dict[str, str]

    def write(self, **settings: dict[str, Any]) -> None:
        """Replace the params of the named stages; the others keep `steps: 0`."""
        lines = [f"{stage}: {json.dumps(settings.get(stage, {'steps': 0}))}" for stage in STAGES]
        (self.root / "params.yaml").write_text("\n".join(lines) + "\n")

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        """`nasflow run` as its own process; `environment` replaces the usual one."""
        program = "import sys, pathlib; from flows import launch; sys.exit(launch.run(pathlib.Path('.'), sys.argv[1:] or None))"
        command = [sys.executable, "-c", program, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=environment or self.environment, **pipes)  # type: ignore[call-overload,no-any-return]

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit code and everything printed by `nasflow run`."""
        process = self.start(*arguments, environment=environment)
        text, _ = process.communicate(timeout=120)
        return process.returncode, text

    def dvc(self, *arguments: str) -> str:
        """Output of a plain dvc command, which must succeed."""
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def journal(self, stage: str) -> list[str]:
        """What the stage has written so far, one line per step: process id and number."""
        path = self.root / ".nasflow" / f"{stage}.journal"
        return path.read_text().splitlines() if path.exists() else []

    def processes(self) -> list[psutil.Process]:
        """Every process that works in this folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.root:
                    found.append(process)
        return found


def until(met: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until `met` is true; fails the test when it never is."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def make_project(root: Path) -> Project:
    """A fresh Git repository with DVC and the four stages, each reading the result of the one before."""
    (root / "stage.py").write_text(STAGE)
    lines, before = ["stages:"], None
    for stage in STAGES:
        deps = "[stage.py]" if before is None else f"[stage.py, results/{before}/value.txt]"
        outs = ", ".join(f"results/{stage}/{name}" for name in ("value.txt", "summary.json", "lineage.json"))
        lines += [f"  {stage}:", f"    cmd: python stage.py {stage}", f"    deps: {deps}", f"    params: [{stage}]", f"    outs: [{outs}]"]
        before = stage
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")
    programs = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "NASFLOW", "DVC"))}
    environment = {**kept, "PATH": f"{programs}{os.pathsep}{kept['PATH']}", "DVC_NO_ANALYTICS": "1", "HOME": str(root)}
    project = Project(root, environment)
    project.write()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    project.dvc("init", "-q")
    return project
