"""A disk that refuses what an evaluator keeps is nobody's failed trial: the search ends with the reason, and continues as itself."""

import errno
from pathlib import Path
from typing import final

import pytest
from fake_search import number_of, plain, run_search, strategy_of

from nas.atomic import DiskError
from nas.evaluators.base import Evaluator
from nas.journal import FileJournal
from nas.trial import Report, Trial
from nas.workers import Workers

TRIALS = 12


@final
class Full(Evaluator):
    """Finds the disk full at trial 7, as long as the folder holds a file `full`."""

    folder: Path

    def evaluate(self, trial: Trial) -> Report:
        """Answer by the architecture alone."""
        if trial.number == 7 and (self.folder / "full").exists():
            raise DiskError("weights cannot be written, because no space is left on the disk", errno.ENOSPC)
        return Report({"accuracy": float(number_of(trial.architecture) % 17)})


def searched(folder: Path, evaluator: Evaluator) -> list[Trial]:
    with FileJournal(folder / "run", fingerprint="f") as journal:
        return run_search(strategy_of("evolution"), evaluator, journal, TRIALS)


def test_a_full_disk_ends_the_search_and_no_trial_is_noted_as_failed(tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    with pytest.raises(DiskError, match="no space is left"):
        searched(tmp_path, Full(folder=tmp_path))
    (tmp_path / "full").unlink()
    continued = searched(tmp_path, Full(folder=tmp_path))
    assert plain(continued) == plain(searched(tmp_path / "other", Full(folder=tmp_path)))
    assert [trial.status for trial in continued] == ["done"] * TRIALS


def test_it_does_so_from_a_worker(tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    with Workers.around(Full(folder=tmp_path), 2) as workers:
        with pytest.raises(DiskError, match="no space is left") as caught:
            searched(tmp_path, workers)
        assert caught.value.errno == errno.ENOSPC
        (tmp_path / "full").unlink()
        continued = searched(tmp_path, workers)
        assert plain(continued) == plain(searched(tmp_path / "other", workers))
    assert [trial.status for trial in continued] == ["done"] * TRIALS
