"""The Prefect flows: one per stage, and the chain of them. DVC decides what runs; Prefect shows, schedules and remembers it."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect import Flow, State, flow
from prefect.settings import temporary_settings
from prefect.states import Completed, Failed

from flows import artifacts, flow_runs, lineage, retrying, tracking
from flows.tracking import Outcome, Result, Session

BUSY_POLL_SECONDS = 2.0
PASSING = "Interrupted"
"""The name of a failed state whose cause may be over the next time."""
AGAIN = "Run the same command again to continue."
# Prefect's own logger for text that goes to the API and not to the terminal, which has it from the stage already.
_log = logging.getLogger("prefect.extra.nasflow")


@flow(name="prepare")
def prepare(root: Path = Path(), force: bool = False, wait_seconds: float = 0.0) -> State[Any]:
    """The source in the one prepared format, split and digested."""
    return _bring("prepare", root, force, wait_seconds)


@flow(name="search")
def search(root: Path = Path(), force: bool = False, wait_seconds: float = 0.0) -> State[Any]:
    """Trials until the budget is spent, and the best architecture."""
    return _bring("search", root, force, wait_seconds)


@flow(name="train")
def train(root: Path = Path(), force: bool = False, wait_seconds: float = 0.0) -> State[Any]:
    """The best architecture trained in full and measured on the test split."""
    return _bring("train", root, force, wait_seconds)


@flow(name="export")
def export(root: Path = Path(), force: bool = False, wait_seconds: float = 0.0) -> State[Any]:
    """The ONNX file, checked and measured, with what is needed to use it."""
    return _bring("export", root, force, wait_seconds)


@flow(name="report")
def report(root: Path = Path(), force: bool = False, wait_seconds: float = 0.0) -> State[Any]:
    """One page that says what was found, how sure that is, and where it comes from."""
    return _bring("report", root, force, wait_seconds)


@flow(name="pipeline")
def pipeline(root: Path = Path(), stages: list[str] | None = None, force: bool = False, wait_seconds: float = 0.0) -> State[Any]:
    """Bring `stages` of the project in `root` up to date, all of dvc.yaml by default, as one sub-flow run each.

    The state is named Cached when nothing had to run, and Failed with the stage's last message when one failed or its results
    may not be trusted. `wait_seconds`: how long another run or DVC process may keep the project busy.
    """
    root = root.resolve()
    try:
        with tracking.session(root, wait_seconds), flow_runs.noted(root), no_heartbeat():
            return chain(root, lineage.choose(tracking.stages(root), stages), force, wait_seconds)
    except (tracking.TrackingError, FileNotFoundError, ValueError) as error:
        return failed(error)


def chain(root: Path, stages: Sequence[str], force: bool, wait_seconds: float) -> State[Any]:
    """Bring `stages` up to date one after the other, as sub-flow runs of the present one; the first that fails is the last."""
    states = []
    for stage in stages:
        state: State[Any] = _flow(stage)(root, force, wait_seconds, return_state=True)
        if not state.is_completed():
            return Failed(name=PASSING if state.name == PASSING else "Failed", message=f"{stage}: {state.message}")
        states.append(state)
    if "report" in stages:
        artifacts.publish(root, "report")  # under the whole run too, where one looks first
    if all(state.name == "Cached" for state in states):
        return Completed(name="Cached", message="nothing has changed")
    return Completed(message=f"up to date: {', '.join(stages)}")


def failed(error: Exception) -> State[Any]:
    """The state of a run that ended with this error; its name tells whether the cause may be over the next time."""
    return Failed(name=PASSING if retrying.is_passing(error) else "Failed", message=str(error))


@contextlib.contextmanager
def no_heartbeat() -> Iterator[None]:
    """Let flow runs inside the block be silent: ending a heartbeat thread takes Prefect a second, and the outermost run speaks for all."""
    with temporary_settings({"flows.heartbeat_frequency": None}):
        yield


def run_here(root: Path, stages: Sequence[str] | None, force: bool, heartbeat: bool) -> int:
    """The pipeline as a command: prints one line per stage, and at most a message; returns the exit code, 0 or 1.

    `heartbeat`: whether somebody may read the heartbeats of this run, which cost a second at its end. Raises ServerLostError when
    Prefect's API cannot be reached.
    """
    # The terminal gets our own lines; the API still gets all of Prefect's.
    logging.getLogger("prefect.flow_runs").propagate = False
    try:
        with contextlib.nullcontext() if heartbeat else no_heartbeat():
            state: State[Any] = pipeline(root, None if stages is None else list(stages), force, return_state=True)
    except (httpx.HTTPError, RuntimeError) as error:
        message = f"Prefect's server does not answer: {error}. Finished stages keep their results. {AGAIN}"
        raise tracking.ServerLostError(message) from error
    if state.is_completed():
        return 0
    print(f"nasflow: {state.message or f'the run ended as {state.name}'}", file=sys.stderr)
    return 1


def _flow(stage: str) -> Flow[..., State[Any]]:
    for known in (prepare, search, train, export, report):
        if known.name == stage:
            return known

    def other(root: Path = Path(), force: bool = False, wait_seconds: float = 0.0) -> State[Any]:
        return _bring(stage, root, force, wait_seconds)

    return flow(name=stage)(other)  # a stage that a user added to dvc.yaml


def _bring(stage: str, root: Path, force: bool, wait_seconds: float) -> State[Any]:
    root = root.resolve()
    try:
        with tracking.session(root, wait_seconds) as session, flow_runs.noted(root), artifacts.live(root, stage):
            result = _trusted(root, stage, force, _patient(session, wait_seconds))
    except (tracking.TrackingError, FileNotFoundError, ValueError) as error:
        return failed(error)
    artifacts.publish(root, stage)
    print(f"{stage}: {result.outcome} in {result.seconds:.1f} s", flush=True)
    if result.outcome is Outcome.CACHED:
        return Completed(name="Cached", message="nothing that it reads has changed")
    if result.outcome is Outcome.RESTORED:
        return Completed(name="Restored", message="an equal earlier run is in DVC's cache")
    return Completed(message=f"ran for {result.seconds:.1f} s")


def _trusted(root: Path, stage: str, force: bool, reproduce: Callable[[str, bool], Result]) -> Result:
    """The stage up to date and its record equal to dvc.lock; raises TrackingError with the differences.

    Results kept from earlier that fail the comparison are made anew: DVC believes them and would keep them for ever.
    """
    result = reproduce(stage, force)
    differences = lineage.verify(root, stage)
    if differences and result.outcome is not Outcome.RAN:
        _log.warning("results from earlier are not what dvc.lock says; the stage runs again\n%s", "\n".join(differences))
        result = reproduce(stage, True)
        differences = lineage.verify(root, stage)
    if differences:
        again = "Its results are not used. Run the same command again: the stage then runs with what is there now."
        raise tracking.TrackingError("\n".join([*differences, again]))
    return result


def _patient(session: Session, wait_seconds: float) -> Callable[[str, bool], Result]:
    # Only a busy project is worth another try: a stage that failed would fail again.
    deadline = time.monotonic() + wait_seconds

    def reproduce(stage: str, force: bool) -> Result:
        while True:
            try:
                return session.reproduce(stage, force, _log.info)
            except tracking.BusyError as error:
                if time.monotonic() >= deadline:
                    raise
                _log.info("waiting: %s", error)
                time.sleep(BUSY_POLL_SECONDS)

    return reproduce
