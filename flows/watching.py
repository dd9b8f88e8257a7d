"""How a search stands, told by its files alone: no lock is taken, and nothing is written. Whoever runs it need not know."""

import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, final

from flows import processes, run_state
from flows.tracking import WORK
from nas import failures, journal
from nas.trial import Trial

LEADERS = 5
Point = tuple[float, int]
"""Seconds since 1970, and how many trials were done."""


@dataclass(frozen=True, slots=True)
class Leader:
    """One of the best: the number of its trial, its values of the glance's metrics, its parameters where they are known, its choices."""

    trial: int
    values: tuple[float, ...]
    parameters: int | None
    architecture: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Glance:
    """A search at one moment.

    `state`: as `nasflow runs` names it; `note`: why it failed or paused. `done` of `planned` evaluations; `rejected` ones cost nothing
    and come on top. `metrics`: what is searched for, the first decides. `per_minute`: evaluations, of late; None where nothing is known
    yet, or nothing runs. `left`: seconds.
    """

    fingerprint: str
    state: str
    note: str = ""
    since: str = ""
    done: int = 0
    planned: int | None = None
    rejected: int = 0
    metrics: tuple[str, ...] = ()
    leaders: tuple[Leader, ...] = ()
    failed: Mapping[str, int] = field(default_factory=dict)
    per_minute: float | None = None

    @property
    def left(self) -> float | None:
        """Seconds until all is done at this pace; None where nobody knows."""
        if self.planned is None or not self.per_minute:
            return None
        return 60 * max(0, self.planned - self.done) / self.per_minute

    @property
    def running(self) -> bool:
        """Whether it still goes on."""
        return self.state == run_state.RUNNING


@final
class Watcher:
    """Looks at the search that runs in a project, or at the last one that did."""

    def __init__(self, root: Path) -> None:
        self._work = root / WORK
        self._read: tuple[tuple[Path, int, int], tuple[list[Trial], str]] | None = None

    def look(self) -> Glance | None:
        """Return how the search stands; None where there is none."""
        found = [(state.name == run_state.RUNNING, _changed(folder), folder, state) for folder, state in _searches(self._work)]
        if not found:
            return None
        running, _, folder, state = max(found, key=lambda entry: entry[:2])
        trials, trouble = self._trials(folder)
        about = state.about
        looks, names = bool(about.get("looks")), _metrics(about)
        points = _points(self._work / "progress" / "search.json", _seconds(state.since)) if running else []
        counted = sum(not trial.rejected for trial in trials)
        return Glance(
            folder.name.rpartition("-")[2],
            state.name,
            note=trouble or state.reason,
            since=state.since,
            done=max(counted, points[-1][1] if points else 0),
            planned=None if "trials" not in about else int(about["trials"]) + int(about.get("looks") or 0),
            rejected=len(trials) - counted,
            metrics=names,
            leaders=tuple(_leaders([trial for trial in trials if not looks or trial.proposal.steps == 0], names)),
            failed=failures.counts(trials),
            per_minute=_per_minute(points, time.time()),
        )

    def _trials(self, folder: Path) -> tuple[list[Trial], str]:
        """The committed trials and what is wrong with the journal; it is read again when it has changed."""
        path = folder / "journal.jsonl"
        try:
            status = path.stat()
            key = (path, status.st_size, status.st_mtime_ns)
            if self._read is None or self._read[0] != key:
                self._read = key, (journal.read(folder), "")
            return self._read[1]
        except FileNotFoundError:  # it has not begun, or is being removed
            return [], ""
        except (journal.JournalError, OSError) as error:
            return [], str(error)


def _searches(work: Path) -> Iterator[tuple[Path, run_state.State]]:
    for folder in work.glob("search-*"):
        with suppress(OSError, ValueError, TypeError):
            state = run_state.State(**json.loads((folder / run_state.FILE).read_text()))
            killed = state.name == run_state.RUNNING and not _lives(state)
            yield folder, replace(state, name=run_state.KILLED) if killed else state


def _lives(state: run_state.State) -> bool:
    """Whether the process that runs a search is there, as far as can be seen from here."""
    return state.host != socket.gethostname() or processes.is_alive(state.pid)


def _changed(folder: Path) -> float:
    """When a search last came further, or began."""
    times = [0.0]
    for name in ("journal.jsonl", run_state.FILE):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)


def _metrics(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what is searched for; earlier versions noted the first alone."""
    named = about.get("metrics") or [about.get("metric", "")]
    return tuple(str(name).removeprefix("-") for name in named)


def _leaders(trials: Iterable[Trial], names: Sequence[str]) -> Iterator[Leader]:
    done = [trial for trial in trials if trial.status == "done"]
    for trial in sorted(done, key=lambda trial: (trial.score, -trial.number), reverse=True)[:LEADERS]:
        metrics = trial.report.metrics if trial.report is not None else {}
        parameters = metrics.get("parameters")
        values = tuple(metrics.get(name, float("nan")) for name in names)
        yield Leader(trial.number, values, None if parameters is None else int(parameters), dict(trial.architecture))


def _points(path: Path, since: float) -> list[Point]:
    """When how much was done, as the stage writes it; nothing where the file is older than the run."""
    try:
        points = [(float(moment), int(done)) for moment, done in json.loads(path.read_text())["pace"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return points if points and points[0][0] >= since else []


def _per_minute(points: Sequence[Point], now: float) -> float | None:
    """The pace between the first point and the last; a trial that takes longer than those before slows it down while it runs."""
    if len(points) < 2:
        return None
    (first, begun), (last, done) = points[0], points[-1]
    usual = (last - first) / (len(points) - 1)
    seconds = max(last - first, now - first - usual)
    return 60 * (done - begun) / seconds if seconds > 0 else None


def _seconds(since: str) -> float:
    try:
        return datetime.fromisoformat(since).timestamp()
    except ValueError:
        return 0.0
