"""The journal of a run in the folder of a project: Ctrl-C and SIGTERM wait for a commit that was begun."""

from collections.abc import Iterable
from typing import Any, final

from flows.ending import finish_first
from nas.journal import Journal, Resumed
from nas.trial import Trial


@final
class RunJournal:
    """Wraps a journal, whose commits a signal would otherwise cut short: trials were paid for already."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def resume(self) -> Resumed:
        """As the journal says."""
        with finish_first():
            return self._journal.resume()

    def append(self, trial: Trial) -> None:
        """As the journal says."""
        self._journal.append(trial)

    def commit(self, waiting: Iterable[Trial], state: dict[str, Any]) -> None:
        """Commit the trials that are noted, whole."""
        with finish_first():
            self._journal.commit(waiting, state)
