"""The memory of a search that survives a kill: an append-only file of trials, and a snapshot of what was learned.

Every line carries a checksum. Lines count only up to the last commit line: resuming cuts what follows it, so that
trials, waiting proposals and learned state always belong to one moment.
"""

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

from nas import atomic
from nas.architecture import Architecture
from nas.trial import Proposal, Report, Score, Trial

FORMAT_VERSION = 1


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

    The folder is written by one process at a time; whoever opens it holds the lock of the run.
    """

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        self._path = folder / "journal.jsonl"
        self._fingerprint = fingerprint
        self._file: BinaryIO | None = None
        self._lines: list[bytes] = []
        self._told = 0
        self._snapshot: str | None = None

    def resume(self) -> Resumed:
        """Return what was committed, and cut what was not.

        Raises JournalError when a line before the last commit is damaged, or when the journal belongs to another
        search or format; the files are then as they were.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        records, length = self._committed()
        if records:
            self._check_header(records[0])
        trials = [decode_trial(record["trial"]) for record in records if "trial" in record]
        commits = [record for record in records if "commit" in record]
        if commits:
            self._told, self._snapshot = len(trials), commits[-1]["state"]
            trials += [decode_trial(record) for record in commits[-1]["waiting"]]
        resumed = Resumed(trials, self._load_state())
        self._file = self._path.open("ab", buffering=0)
        self._file.truncate(length)
        if not records:
            self._write([_line({"format": FORMAT_VERSION, "fingerprint": self._fingerprint})])
            atomic.sync_folder(self._path.parent)
        self._remove_other_snapshots()
        return resumed

    def append(self, trial: Trial) -> None:
        """Note a finished trial; it counts from the next commit."""
        self._lines.append(_line({"trial": encode_trial(trial)}))
        self._told += 1

    def commit(self, waiting: Iterable[Trial], state: dict[str, Any]) -> None:
        """Make all notes, the trials that are running and the learned state durable at once.

        Raises OSError when the disk does not take them; what was committed before stays, and this object is closed.
        """
        previous, self._snapshot = self._snapshot, f"state-{self._told}.pt" if any(state.values()) else None
        if self._snapshot:
            from nas import checkpoint  # with PyTorch, which searches without learned state can do without

            checkpoint.save(self._path.parent / self._snapshot, state)
        record = {"commit": self._told, "waiting": [encode_trial(trial) for trial in waiting], "state": self._snapshot}
        try:
            self._write([*self._lines, _line(record)])
        except BaseException:
            self.close()  # the file may end in part of a line, and nothing may follow that
            raise
        self._lines = []
        if previous and previous != self._snapshot:
            (self._path.parent / previous).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; what was not committed is dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _committed(self) -> tuple[list[dict[str, Any]], int]:
        """Read the records up to the last commit (or the header) and their length in bytes."""
        if not self._path.exists():
            return [], 0
        data = self._path.read_bytes()
        records: list[dict[str, Any]] = []
        good, position, end = 0, 0, 0
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            position += len(line)
            record = _parse(line)
            if record is None:
                torn = b"\0" in line  # a loss of power can keep the later page of the last commit and leave zeros for the earlier
                if _commits(data[position:]) > torn:
                    raise JournalError(
                        f"{self._path} line {number} is damaged although later lines are sound: restore the file or start anew"
                    )
                if number == 1 and line.endswith(b"\n"):
                    raise JournalError(f"{self._path} line 1 is damaged, or this is not a journal: restore the file or start anew")
                break
            records.append(record)
            if "trial" not in record:
                good, end = len(records), position
        return records[:good], end

    def _check_header(self, header: dict[str, Any]) -> None:
        if header.get("format") != FORMAT_VERSION:
            raise JournalError(
                f"{self._path} has journal format {header.get('format')}, this version writes {FORMAT_VERSION}: "
                "finish the search with the version that began it, or start anew"
            )
        if header.get("fingerprint") != self._fingerprint:
            raise JournalError(
                f"{self._path} belongs to the search {header.get('fingerprint')}, not to {self._fingerprint}: use another folder"
            )

    def _write(self, lines: list[bytes]) -> None:
        if self._file is None:
            raise JournalError(f"{self._path} is not open: call resume first")
        data = memoryview(b"".join(lines))
        while data:
            data = data[self._file.write(data) :]
        os.fdatasync(self._file.fileno())

    def _load_state(self) -> dict[str, Any]:
        if self._snapshot is None:
            return {}
        from nas import checkpoint

        path = self._path.parent / self._snapshot
        try:
            return checkpoint.load(path)
        except FileNotFoundError as error:
            raise JournalError(f"{path} is missing although the journal names it: restore the file or start anew") from error
        except checkpoint.CheckpointError as error:
            raise JournalError(f"{path} cannot be read: restore the file or start anew") from error

    def _remove_other_snapshots(self) -> None:
        """Remove snapshots that no commit names, written or half written when an earlier process was killed."""
        for pattern in ("state-*.pt", ".state-*.pt.*"):
            for path in self._path.parent.glob(pattern):
                if path.name != self._snapshot:
                    path.unlink(missing_ok=True)


def read(path: Path) -> list[Trial]:
    """Return the committed trials of another search; `path` is its journal.jsonl or the folder that holds it.

    Raises FileNotFoundError when there is none, JournalError when it is damaged or of another format. Nothing is written.
    """
    folder = path.parent if path.name == "journal.jsonl" else path
    if not (folder / "journal.jsonl").is_file():
        raise FileNotFoundError(f"{path} holds no journal.jsonl: name the folder of a search, such as .nasflow/search-…")
    records, _ = FileJournal(folder, fingerprint="")._committed()
    if records and records[0].get("format") != FORMAT_VERSION:
        raise JournalError(f"{path} has journal format {records[0].get('format')}, this version reads {FORMAT_VERSION}: leave it out")
    return [decode_trial(record["trial"]) for record in records if "trial" in record]


def _line(record: dict[str, Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":"), default=float).encode()  # metrics may be numbers of NumPy or torch
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> dict[str, Any] | None:
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        return None
    record: dict[str, Any] = json.loads(body)
    return record


def _commits(rest: bytes) -> int:
    """How many sound commit lines there are."""
    records = (_parse(line) for line in rest.splitlines(keepends=True))
    return sum(record is not None and "commit" in record for record in records)


def encode_trial(trial: Trial) -> dict[str, Any]:
    """Return a trial as plain JSON values; floats keep every bit, mixtures and gradients as float32."""
    proposal, report = trial.proposal, trial.report
    record: dict[str, Any] = {"number": trial.number, "architecture": dict(proposal.architecture)}
    optional: dict[str, Any] = {"steps": proposal.steps, "parent": proposal.parent, "mixture": _encode_mixture(proposal.mixture)}
    record |= {name: value for name, value in optional.items() if value is not None}
    if report is not None:
        record |= {"metrics": dict(report.metrics), "seconds": report.seconds}
        optional = {"error": report.error, "gradient": _encode_mixture(report.gradient), "reused": report.reused}
        record |= {name: value for name, value in optional.items() if value is not None}
    if trial.score is not None:
        record["score"] = list(trial.score)
    return record


def decode_trial(record: dict[str, Any]) -> Trial:
    """Undo `encode_trial`."""
    mixture = _decode_mixture(record.get("mixture"))
    proposal = Proposal(Architecture(record["architecture"]), record.get("steps"), record.get("parent"), mixture)
    if "metrics" not in record:
        return Trial(record["number"], proposal)
    gradient = _decode_mixture(record.get("gradient"))
    report = Report(record["metrics"], record["seconds"], record.get("error"), gradient, record.get("reused"))
    score = Score(record["score"][0], tuple(record["score"][1])) if "score" in record else None
    return Trial(record["number"], proposal, report, score)


def _encode_mixture(mixture: Any) -> dict[str, list[float]] | None:
    return None if mixture is None else {name: weights.tolist() for name, weights in mixture.items()}


def _decode_mixture(record: dict[str, list[float]] | None) -> Any:
    if record is None:
        return None
    import torch

    return {name: torch.tensor(weights, dtype=torch.float32) for name, weights in record.items()}
