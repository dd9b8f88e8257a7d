"""The whole pipeline, killed in a stage: the same command again ends with the bytes of a pipeline that nobody killed.

`test_searches.py` kills every stage by itself, and `tests/flows/test_deployments.py` a scheduled run in its search.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from killed_pipelines import COMMANDS, STAGES, built_once, differing, fresh, kill_in
from real_project import RealProject

from flows import lineage

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> RealProject:
    """A project that `dvc repro` has built, the same one for every process of a session; tests must leave it as it is."""
    own = tmp_path_factory.getbasetemp()
    return built_once(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.mark.parametrize(("way", "stage"), [("dvc", "train"), ("nasflow", "export")])
def test_a_killed_pipeline_ends_with_the_same_bytes(built: RealProject, tmp_path: Path, way: str, stage: str) -> None:
    project, rng = fresh(built, tmp_path / "project"), np.random.default_rng(STAGES.index(stage))
    assert kill_in(project, way, stage, rng), f"{stage} ended before it could be killed: give it more to do"
    assert not (project.root / "results" / stage / "lineage.json").exists()
    project.run(*COMMANDS[way])
    assert differing(project, built.content(*STAGES)) == []
    assert json.loads(project.run("dvc", "status", "--json").stdout) == {}
    assert lineage.compare(project.root) == []
