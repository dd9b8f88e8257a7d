"""The memory of a search that survives a kill: an append-only file of trials, and a snapshot of what was learned.

Every line carries a checksum. Lines count only up to the last commit line: resuming cuts what follows it, so that
trials, waiting proposals and learned state always belong to one moment.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from nas import atomic
from nas.journal_lines import commit_of, due, in_turn, line_of, parse, still_running
from nas.trial import Trial
from nas.trial_record import decode_trial as decode_trial
from nas.trial_record import encode_trial as encode_trial

FORMAT_VERSION = 3
_READABLE = (1, 2, 3)
"""Format 1 names all running trials in every commit, which is nearly all that is written where there are very many workers. Up to format 2
commits have no number of their own, so that one that was taken out leaves no gap."""


_NUMBERED = 3
"""Since this format."""


class JournalError(RuntimeError):
    """A journal that cannot be continued; the message says which line, why, and what to do."""


@dataclass
class Resumed:
    """Where a search stands: trials by number (the last may be running) and the learned state by owner."""

    trials: list[Trial] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)


class Journal(Protocol):
    """What the search needs of its memory."""

    def resume(self) -> Resumed:
        """Return what was committed; called once, before anything else."""

    def append(self, trial: Trial) -> None:
        """Note a finished trial; it counts from the next commit."""

    def commit(self, waiting: Iterable[Trial], state: dict[str, Any]) -> None:
        """Make all notes, the trials that are running and the learned state durable at once."""


class MemoryJournal:
    """A journal for searches that need not survive their process."""

    def resume(self) -> Resumed:
        """Nothing was committed."""
        return Resumed()

    def append(self, trial: Trial) -> None:
        """Keep nothing: the search itself holds the history."""

    def commit(self, waiting: Iterable[Trial], state: dict[str, Any]) -> None:
        """Keep nothing."""


class FileJournal:
    """A journal in `folder`/journal.jsonl, with snapshots of learned state beside it.

    The folder is written by one process at a time; whoever opens it holds the lock of the run. `say` is told, in a sentence, when
    what a kill left half written was cut.
    """

    def __init__(self, folder: Path, *, fingerprint: str, say: Callable[[str], object] = lambda line: None) -> None:
        self._path = folder / "journal.jsonl"
        self._fingerprint = fingerprint
        self._say = say
        self._file: atomic.Growing | None = None
        self._lines: list[bytes] = []
        self._told = 0
        self._snapshot: str | None = None
        self._format = FORMAT_VERSION
        self._commits = 0
        self._waiting: list[Trial] = []

    def resume(self) -> Resumed:
        """Return what was committed, and cut what was not.

        Raises JournalError when a line before the last commit is damaged, or when the journal belongs to another
        search or format, and DiskError when the disk does not give or take it; the files are then as they were.
        """
        found = _read(self._path, _anew(self._path))
        header = line_of({"format": FORMAT_VERSION, "fingerprint": self._fingerprint})
        if found.fingerprint not in (None, self._fingerprint):
            raise JournalError(f"{self._path} belongs to the search {found.fingerprint}, not to {self._fingerprint}: use another folder")
        if found.fingerprint is None and not header.startswith(found.rest.rstrip(b"\0")):
            raise JournalError(f"{self._path} line 1 is damaged, or this is not a journal: {_cure(_anew(self._path))}")
        self._told, self._snapshot = len(found.trials), found.snapshot
        self._format, self._commits, self._waiting = found.format, found.commits, found.waiting
        resumed = Resumed(found.trials + found.waiting, self._load_state())
        atomic.make_folder(self._path.parent)
        self._file = atomic.Growing(self._path, found.length)
        if found.rest:
            self._say(
                f"{self._path}: cut {len(found.rest)} bytes behind line {found.lines}, left by a commit that a kill or a loss of power "
                f"interrupted; {len(found.trials)} trials were committed before, and the search goes on from there"
            )
        if found.fingerprint is None:
            self._file.append(header)
        self._remove_other_snapshots()
        return resumed

    def append(self, trial: Trial) -> None:
        """Note a finished trial; it counts from the next commit. Raises ValueError when it is not the next by number."""
        if trial.number != self._told:
            raise ValueError(f"trial {trial.number} was finished where {self._told} is the next: a journal holds trials in order")
        self._lines.append(line_of({"trial": encode_trial(trial)}))
        self._told += 1

    def commit(self, waiting: Iterable[Trial], state: dict[str, Any]) -> None:
        """Make all notes, the trials that are running and the learned state durable at once.

        Raises DiskError when the disk does not take them, or the file was removed or changed by somebody else; what was committed
        before stays, and this object is closed.
        """
        if self._file is None:
            raise JournalError(f"{self._path} is not open: call resume first")
        try:
            self._commit(self._file, waiting, state)
        except BaseException:
            self.close()  # its notes and the learned state are of different moments now
            raise

    def _commit(self, file: atomic.Growing, waiting: Iterable[Trial], state: dict[str, Any]) -> None:
        file.check()
        previous, self._snapshot = self._snapshot, f"state-{self._told}.pt" if any(state.values()) else None
        if self._snapshot:
            from nas import checkpoint  # with PyTorch, which searches without learned state can do without

            checkpoint.save(self._path.parent / self._snapshot, state)
        known, self._waiting = self._waiting, list(waiting)
        still = 0 if self._format == 1 else still_running(known, self._waiting)
        record: dict[str, Any] = {"commit": self._told} | ({"still": still} if still else {})
        record |= {} if self._format < _NUMBERED else {"nth": self._commits + 1}
        record |= {"waiting": [encode_trial(trial) for trial in self._waiting[still:]], "state": self._snapshot}
        file.append(b"".join([*self._lines, line_of(record)]))
        self._lines, self._commits = [], self._commits + 1
        if previous and previous != self._snapshot:
            _remove(self._path.parent / previous)

    def close(self) -> None:
        """Let go of the file; what was not committed is dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _load_state(self) -> dict[str, Any]:
        if self._snapshot is None:
            return {}
        from nas import checkpoint

        path = self._path.parent / self._snapshot
        try:
            return checkpoint.load(path, "strategy", "evaluator")
        except FileNotFoundError as error:
            raise JournalError(f"{path} is missing although the journal names it: {_cure(_anew(path))}") from error
        except checkpoint.CheckpointError as error:
            raise JournalError(f"{path} cannot be read: {_cure(_anew(path))}") from error

    def _remove_other_snapshots(self) -> None:
        """Remove snapshots that no commit names, written or half written when an earlier process was killed."""
        for pattern in ("state-*.pt", ".state-*.pt.*"):
            for path in self._path.parent.glob(pattern):
                if path.name != self._snapshot:
                    _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # nothing reads it again, and the next start tries again
        path.unlink()


def _anew(path: Path) -> str:
    """How a search starts anew, without the folder that holds a file."""
    return f"move {path.parent} aside and run the same command again, to start anew"


def _cure(otherwise: str) -> str:
    return f"put back a copy of it, or {otherwise}"


def read(path: Path, otherwise: str = "leave it out") -> list[Trial]:
    """Return the committed trials of another search; `path` is its journal.jsonl or the folder that holds it.

    otherwise: what to do about one that cannot be read, besides mending it. Raises FileNotFoundError when there is none, JournalError
    when it is damaged or of another format. Nothing is written.
    """
    folder = path.parent if path.name == "journal.jsonl" else path
    if not (folder / "journal.jsonl").is_file():
        raise FileNotFoundError(f"{path} holds no journal.jsonl: name the folder of a search, such as .nasflow/search-…")
    return _read(folder / "journal.jsonl", otherwise).trials


@dataclass
class _Found:
    """What a journal holds up to its last commit; `rest` are the bytes behind, `fingerprint` is None when there is no first line."""

    fingerprint: str | None = None
    format: int = FORMAT_VERSION
    trials: list[Trial] = field(default_factory=list)
    waiting: list[Trial] = field(default_factory=list)
    snapshot: str | None = None
    commits: int = 0
    lines: int = 0
    length: int = 0
    rest: bytes = b""


def _read(path: Path, otherwise: str) -> _Found:
    """Read up to the last commit. Raises JournalError; `otherwise` is what can be done instead of mending it."""
    with atomic.explained(path, "read", "it is as it was"):
        data = path.read_bytes() if path.exists() else b""
    lines, found, trials, position = data.split(b"\n"), _Found(), list[Trial](), 0
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = parse(line)
            if record is None:
                _refuse_unless_torn(path, number, line, lines[number:], otherwise)
                break
            position += len(line) + 1
            if number == 1:
                found.fingerprint, found.format = _fingerprint_of(record, path, otherwise), record["format"]
            elif "trial" in record:
                trials.append(due(record["trial"], len(trials), finished=True))
            else:
                found.commits += 1
                if found.format >= _NUMBERED:
                    in_turn(record, found.commits)
                found.waiting, found.snapshot = commit_of(record, len(trials), found.waiting)
        except ValueError as error:
            raise JournalError(f"{path} line {number} is not what a search writes ({error}): {_cure(otherwise)}") from error
        if number == 1 or "trial" not in record:
            found.trials, found.lines, found.length = list(trials), number, position
    found.rest = data[found.length :]
    return found


def _refuse_unless_torn(path: Path, number: int, line: bytes, later: list[bytes], otherwise: str) -> None:
    """Raise JournalError when a damaged line cannot be the end of a commit that was interrupted."""
    torn = b"\0" in line  # a loss of power can keep the later page of the last commit and leave zeros for the earlier
    if sum(b'{"commit":' in other and parse(other) is not None for other in later) > torn:
        raise JournalError(f"{path} line {number} is damaged although later lines are sound: {_cure(otherwise)}")
    if number == 1:
        raise JournalError(f"{path} line 1 is damaged, or this is not a journal: {_cure(otherwise)}")


def _fingerprint_of(record: dict[str, Any], path: Path, otherwise: str) -> str:
    if "format" not in record:
        raise ValueError("the first line names no format")
    if record["format"] not in _READABLE:
        raise JournalError(
            f"{path} has journal format {record['format']}, this version reads and writes {FORMAT_VERSION}: "
            f"finish the search with the version that began it, or {otherwise}"
        )
    if not isinstance(record.get("fingerprint"), str):
        raise ValueError("'fingerprint' is wrong")
    return str(record["fingerprint"])
