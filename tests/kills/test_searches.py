"""A search, a training or a stage that is killed with SIGKILL, again and again, gives what it gives when nobody kills it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from killed_samples import Forgetful, Raising
from killed_searches import SearchJob, search_jobs
from killed_stages import STAGES, StageJob, run_stages
from killed_trainings import TrainingJob
from killing import Job, Killer, Whole

from nas.load import load, names

KILLS = 3
KILLS_OF_A_STAGE = 2
"""One at a random moment, one at a durable call: a stage takes longer than a search by itself."""
_TRAINED = {"evolution x scratch x 1", "halving x scratch x 1", "hyperband x scratch x 2", "nsga2 x scratch x 2"}
_MEASURED = {"local x proxy x 2", "random x proxy x 1"}
JOBS = [job for job in search_jobs(Path()) if job.evaluator in ("table", "shared") or str(job) in _TRAINED | _MEASURED]


def assert_kills_change_nothing(killer: Killer, job: Job, folder: Path, seed: int, whole: Whole | None = None, kills: int = KILLS) -> None:
    whole = whole or killer.whole(job, folder / "whole")
    broken = killer.broken(job, folder / "broken", whole, kills, np.random.default_rng(seed))
    assert broken.kills == kills, "too short a run to be hit so often: give it more to do"
    assert broken.differing == []


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_killed_search_is_the_search_itself(killer: Killer, shared: Path, tmp_path: Path, job: SearchJob) -> None:
    assert_kills_change_nothing(killer, replace(job, shared=shared), tmp_path, JOBS.index(job))


def test_every_strategy_is_killed_by_one_worker_and_by_two() -> None:
    for name in names("strategies"):
        workers = {job.workers for job in JOBS if name in job.strategies}
        assert workers == ({1} if "gradient" in load("strategies", name)().requires else {1, 2})
    assert {job.evaluator for job in JOBS} == set(names("evaluators"))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_training_is_the_training_itself(killer: Killer, shared: Path, tmp_path: Path, seed: int) -> None:
    assert_kills_change_nothing(killer, TrainingJob(shared, seed), tmp_path, seed)


@pytest.fixture(scope="module")
def stages(killer: Killer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[StageJob, Whole]]:
    """The four stages and what they give when nobody kills them."""
    return {job.stage: (job, whole) for job, whole in run_stages(tmp_path_factory.mktemp("stages"), killer)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_publishes_the_same_bytes_and_never_a_part(
    killer: Killer, stages: dict[str, tuple[StageJob, Whole]], tmp_path: Path, stage: str
) -> None:
    job, whole = stages[stage]
    assert_kills_change_nothing(killer, job, tmp_path, STAGES.index(stage), whole, KILLS_OF_A_STAGE)


def test_what_differs_is_named(killer: Killer, tmp_path: Path) -> None:
    whole = killer.whole(Forgetful(), tmp_path / "whole")
    assert (whole.calls, whole.content) == (20, {"begun": "x", "number": "19"})
    broken = killer.broken(Forgetful(), tmp_path / "broken", whole, 2, np.random.default_rng(0))
    assert (broken.kills, set(broken.differing)) == (2, {"begun"})


def test_a_run_that_fails_says_why(killer: Killer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ValueError: no such thing"):
        killer.whole(Raising(), tmp_path / "whole")
