"""The lines of a journal: a checksum and a JSON record, which is the header, a trial, or a commit."""

import itertools
import json
import zlib
from typing import Any

from nas.trial import Trial
from nas.trial_record import decode_trial, number_of


def line_of(record: dict[str, Any]) -> bytes:
    """Return a record as a line of a journal."""
    body = json.dumps(record, separators=(",", ":"), default=number_of).encode()  # metrics may be numbers of NumPy or torch
    return b"%08x %s\n" % (zlib.crc32(body), body)


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, None when it is damaged. Raises ValueError when its checksum is right, but it holds none."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        record = json.loads(body)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it holds no mapping")
    return record


def commit_of(record: dict[str, Any], told: int, known: list[Trial]) -> tuple[list[Trial], str | None]:
    """Return the running trials and the snapshot of a commit line; `known` were running at the last one.

    Raises ValueError when it does not fit the lines before.
    """
    waiting, state = record.get("waiting"), record.get("state")
    if record.get("commit") != told or isinstance(record["commit"], bool | float):
        raise ValueError(f"it commits {record.get('commit')!r} trials, but {told} are there")
    if not isinstance(waiting, list):
        raise ValueError("'waiting' is wrong")
    if state not in (None, f"state-{told}.pt"):  # any other name could lead out of the folder
        raise ValueError(f"'state' is {state!r}")
    left, still = [trial for trial in known if trial.number >= told], record.get("still", 0)
    if type(still) is not int or not 0 <= still <= len(left):
        raise ValueError(f"'still' is {still!r}, but {len(left)} trials were running")
    return left[:still] + [due(trial, told + still + index, finished=False) for index, trial in enumerate(waiting)], state


def in_turn(record: dict[str, Any], number: int) -> None:
    """Raise ValueError when a commit line is not the one of this number."""
    if record.get("nth") != number or isinstance(record["nth"], bool | float):
        raise ValueError(f"commit {record.get('nth')!r} stands where {number} is due, so lines are missing or were put in")


def due(record: Any, number: int, *, finished: bool) -> Trial:
    """Return the trial of a record. Raises ValueError when it is misshapen, or another one is due here."""
    trial = decode_trial(record)
    if trial.number != number:
        raise ValueError(f"trial {trial.number} stands where {number} is due")
    if (trial.report is not None) != finished:
        raise ValueError(f"trial {number} is {trial.status}")
    earlier = (trial.proposal.parent, None if trial.report is None else trial.report.reused)
    if any(other is not None and other >= number for other in earlier):
        raise ValueError(f"trial {number} refers to a later one")
    return trial


def still_running(known: list[Trial], waiting: list[Trial]) -> int:
    """Return how many of the first running trials the last commit named already."""
    if not known or not waiting:
        return 0
    pairs = zip(known[max(0, waiting[0].number - known[0].number) :], waiting, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] is pair[1], pairs))
