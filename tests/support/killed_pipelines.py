"""Kills of the real command line: `dvc repro` and `nasflow run`, hit in a chosen stage, then the same command again."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from fake_project import Project, until
from real_project import RealProject, make_real_project

STAGES = ("prepare", "search", "train", "export")
COMMANDS: Mapping[str, Sequence[str]] = {"dvc": ("dvc", "repro"), "nasflow": ("nasflow", "run")}
_SIGNS = {
    "prepare": ".nasflow/publish-prepare/fresh",
    "search": ".nasflow/search-*/weights/trial-*.pt",
    "train": ".nasflow/train-*/seed-0.pt",
    "export": ".nasflow/publish-export/fresh",
}
"""What is there once a stage is in the midst of its work: of a training, the end of the first epoch."""
_DELAYS = {"prepare": 0.05, "search": 0.3, "train": 0.2, "export": 0.1}
"""Seconds from the sign to the kill, at most; each stage has more than that to do."""
_PATIENCE_SECONDS = 240.0


def kill_in(project: RealProject, way: str, stage: str, rng: np.random.Generator) -> bool:
    """Start a command and kill it in the midst of a stage; whether it was hit there, before the stage had published.

    `dvc repro` is killed with all its processes, as by a loss of power. Of `nasflow run` only the process that a person sees is
    killed, and the others have to end by themselves. Raises AssertionError when one does not.
    """
    with _started(project, COMMANDS[way]) as process:
        before = _signs(project, stage)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _signs(project, stage) - before and process.poll() is None:
            assert time.monotonic() < deadline, f"{way} does not come to {stage}"
            time.sleep(0.005)
        time.sleep(rng.random() * _DELAYS[stage])
        published = (project.root / "results" / stage / "lineage.json").exists()
        kill = os.killpg if way == "dvc" else os.kill
        with contextlib.suppress(ProcessLookupError):
            kill(process.pid, signal.SIGKILL)
        hit = process.wait() == -signal.SIGKILL and not published
    until(lambda: not Project(project.root, {}).processes(), 30)
    return hit


def differing(project: RealProject, whole: Mapping[str, bytes]) -> list[str]:
    """The published files that are not, byte for byte, those of a run that nobody killed."""
    found = project.content(*STAGES)
    return [name for name in sorted(whole.keys() | found.keys()) if whole.get(name) != found.get(name)]


def built_once(shared: Path) -> RealProject:
    """The project that `dvc repro` has built in `shared`/built, by whichever process comes first; nobody may change it."""
    root = shared / "built"
    with (shared / "built.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "built.done").exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            project = make_real_project(root)
            project.set("export.int8=measure")  # so that there is time to kill it in, though all that is measured is known
            project.run("git", "commit", "-qam", "int8")
            project.run("dvc", "repro")
            (shared / "built.done").write_text(json.dumps(project.environment))
    return RealProject(root, json.loads((shared / "built.done").read_text()))


def fresh(built: RealProject, root: Path) -> RealProject:
    """A project like `built` in which nothing was run yet: what was committed before it ran."""
    built.run("git", "clone", "-q", str(built.root), str(root))
    # What was measured belongs to the machine: without it the same file would have other latencies.
    shutil.copytree(built.root / ".nasflow" / "measurements", root / ".nasflow" / "measurements")
    return RealProject(root, {**built.environment, "PYTHONPATH": str(root)})


@contextlib.contextmanager
def _started(project: RealProject, command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    with (project.root.parent / f"{project.root.name}.log").open("ab") as log:
        process = subprocess.Popen(
            project.words(*command), cwd=project.root, env=project.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _signs(project: RealProject, stage: str) -> set[tuple[str, int]]:
    found = set()
    for path in project.root.glob(_SIGNS[stage]):
        with contextlib.suppress(FileNotFoundError):
            found.add((str(path), path.stat().st_mtime_ns))
    return found
