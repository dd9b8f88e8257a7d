"""The project that `dvc repro` has built once for all tests, committed, and pushed to a remote; and a clone that has pulled."""

import os
import shutil
from pathlib import Path

import pytest
from killed_pipelines import built_once
from real_project import RealProject


def committed(factory: pytest.TempPathFactory, root: Path) -> RealProject:
    """A copy of the built project in `root`, its results committed and pushed to the folder `remote` beside it."""
    own = factory.getbasetemp()
    built = built_once(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)
    shutil.copytree(built.root, root, symlinks=True)
    project = in_folder(built, root)
    project.run("dvc", "remote", "add", "-d", "local", str(root.parent / "remote"))
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "results of a run")
    project.run("dvc", "push")
    return project


def cloned(project: RealProject, root: Path) -> RealProject:
    """A fresh clone, without any result yet."""
    project.run("git", "clone", "-q", str(project.root), str(root))
    return in_folder(project, root)


def in_folder(project: RealProject, root: Path) -> RealProject:
    """The environment of a project for another folder."""
    return RealProject(root, {**project.environment, "PYTHONPATH": str(root)})
