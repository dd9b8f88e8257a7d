"""How a run stands, in `state.json` of its folder. A run that says it is running while nobody holds its folder was killed."""

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flows import locks
from flows.ending import Stopped, finish_first
from nas import atomic

FILE = "state.json"
RUNNING, PAUSED, FAILED, FINISHED, KILLED, UNKNOWN = "running", "paused", "failed", "finished", "killed", "unknown"
WORDS = {
    RUNNING: "is running",
    PAUSED: "is paused",
    FAILED: "has failed",
    FINISHED: "has finished",
    KILLED: "was killed",
    UNKNOWN: "stands nobody knows how",
}
"""How a run stands, as a person says it."""


@dataclass(frozen=True, slots=True)
class State:
    """How a run stands, since when, and the process that brought it there.

    `name`: running, paused (Ctrl-C or SIGTERM), failed, finished, killed, or unknown for the run of an older version. `began`: when
    the run first started. `reason`: why it failed or paused. `about`: what the stage tells of itself, such as how many trials are planned.
    """

    name: str
    since: str = ""
    began: str = ""
    pid: int = 0
    host: str = ""
    command: str = ""
    reason: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


def read(folder: Path) -> State:
    """Return how the run in a folder stands. Raises OSError when the folder cannot be read."""
    held = locks.is_held(folder)
    state = _load(folder)
    if held:
        return replace(state, name=RUNNING)
    return replace(state, name=KILLED) if state.name == RUNNING else state


@contextmanager
def noted(folder: Path, about: Mapping[str, Any]) -> Iterator[State]:
    """Note that the run in a folder runs, and at the end how it ended; gives how it stood before. Whoever enters holds the folder."""
    before = read_held(folder)
    process = locks.this_process()
    running = State(RUNNING, began=before.began or process["since"], about={**before.about, **about}, **process)
    with finish_first():
        _save(folder, running)
    try:
        yield before
    except BaseException as error:
        with suppress(OSError):  # what ended the run is to be told; nobody holds the folder then, so it reads as killed
            _end(folder, error)
        raise
    _end(folder, None)


def note(folder: Path, about: Mapping[str, Any]) -> None:
    """Add to what a running stage tells of itself."""
    state = _load(folder)
    _save(folder, replace(state, about={**state.about, **about}))


def read_held(folder: Path) -> State:
    """Return how a run that this process holds stands by its file alone; `running` reads as killed."""
    state = _load(folder)
    return replace(state, name=KILLED) if state.name == RUNNING else state


def _end(folder: Path, error: BaseException | None) -> None:
    """Note how a run ended; a signal waits, or what is done would read as killed."""
    with finish_first():
        _save(folder, _ended(folder, error))


def _ended(folder: Path, error: BaseException | None) -> State:
    state = replace(_load(folder), since=locks.now())
    if error is None:
        return replace(state, name=FINISHED, reason="")
    if isinstance(error, Exception):
        text = str(error).strip().split("\n", 1)[0]
        return replace(state, name=FAILED, reason=f"{type(error).__name__}: {text}" if text else type(error).__name__)
    number = error.number if isinstance(error, Stopped) else signal.SIGINT
    return replace(state, name=PAUSED, reason=signal.Signals(number).name)


def _load(folder: Path) -> State:
    try:
        return State(**json.loads((folder / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # an older version wrote none, a newer one another
        return State(UNKNOWN)


def _save(folder: Path, state: State) -> None:
    atomic.write_json(folder / FILE, asdict(state))
