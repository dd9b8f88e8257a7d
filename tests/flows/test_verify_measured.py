"""`nasflow verify` of a search that measured files: what is of the file is left out, and another candidate than the winner is no change."""

import json
from pathlib import Path

import pytest
from at_once import work_here
from made_up_times import made_up
from recorded_project import SEARCH, TRAIN, inside, make_recorded_project, nasflow, run_stages, write_settings
from small_images import one_thread

from export import structures
from flows import verify_trial
from flows.verify import UnverifiableError
from nas.architecture import Architecture
from nas.trial import Proposal, Report, Trial

__all__ = ["one_thread"]
MEASURED = {**SEARCH, "strategy": "random", "trials": 3, "finalists": 2, "measure": ["latency_ms", "file_bytes"], "preflight": False}


def test_a_trial_and_a_candidate_of_a_measured_search_come_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "measure", made_up)
    work_here(monkeypatch)
    train = {**TRAIN, "seeds": [0]}
    make_recorded_project(tmp_path, search=MEASURED, train=train)
    with inside(tmp_path):
        run_stages(["prepare", "search"])
        second = json.loads((tmp_path / "results/search/candidates.json").read_text())[1]["trial"]
        write_settings(tmp_path, search=MEASURED, train={**train, "trial": second})
        run_stages(["train"])
        winner, trial = nasflow("verify"), nasflow("verify", "0")
    assert winner.code == 0, winner.errors
    assert winner.output.splitlines()[-1].endswith(": bit-identical")
    assert "changed since" not in winner.output
    assert trial.code == 0, trial.errors
    assert trial.output.splitlines()[-1].endswith(": bit-identical")
    [line] = [line for line in trial.output.splitlines() if "not measured again" in line]
    assert all(name in line for name in ("latency_ms", "latency_ms_low", "latency_ms_high", "file_bytes"))


def test_a_trial_that_could_not_be_exported_is_not_compared() -> None:
    report = Report(error="LimitError: it cannot be shipped: no translation", kind="export")
    with pytest.raises(UnverifiableError, match=r"trial 4 was not trained, since its file could not be made \(LimitError: it cannot"):
        verify_trial._compare(Trial(4, Proposal(Architecture({})), report), Report({"accuracy": 1.0}), 0.0)
