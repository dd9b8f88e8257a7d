"""The flow that deployments run: what `nasflow run` does, asked for by a schedule, an event or a person in Prefect's pages.

A wrong setting fails at once. What the machine, the network or another run is at fault for is tried again, later and later.
"""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import FailedRun, PrefectException
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from flows import forms, freshness, launch, lineage, notices, pipeline, processes, released, retrying, tracking
from flows.flow_runs import drop_missed, noted

_log = logging.getLogger("prefect.extra.nasflow")


class How(BaseModel):
    """How a run deals with what is around it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    force: bool = False
    """Run stages that are up to date, too."""
    promote_if_better: bool = False
    """Release the model where it is better than the released one, beyond noise, on the confirm data; else keep it as a candidate."""
    wait_seconds: float = Field(86400.0, ge=0)
    """How long another run may keep the project before this one gives up."""
    timeout_seconds: float | None = Field(None, gt=0)
    """How long the stages may take in all; what runs then is paused, and the next run continues it. Null: as long as they need."""
    retries: int = Field(3, ge=0)
    """How often to try again after a failure of the machine, the network or the server."""
    retry_seconds: float = Field(30.0, ge=0)
    """How long to wait before the first of these; each further wait is twice as long, an hour at most."""
    notify: Annotated[str, Field(pattern=forms.TARGET)] | None = None
    """Who is told of failures and of new results: a URL that takes JSON by POST, or a notification block of Prefect as type/name."""


@flow(
    name="nasflow",
    on_completion=[notices.tell],
    on_failure=[notices.tell],
    on_crashed=[notices.tell],
    on_cancellation=[notices.tell],
)
def nasflow(
    root: Annotated[Path, Field(description="The project's folder.")] = Path(),
    stages: Annotated[forms.Stages, Field(description="Only these stages; null for all.")] = None,
    settings: forms.Overrides = {},  # noqa: B006  (Prefect shows it as the form's default, and nobody changes it)
    how: How = How(),  # noqa: B008  (as above)
) -> State[Any]:
    """Bring a project up to date: data that come from elsewhere first, then every stage that depends on what has changed."""
    for name in ("prefect.flow_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_is_told_once)
    if processes.SERVER in os.environ:
        processes.follow(int(os.environ[processes.SERVER]))
    root = root.resolve()
    if missed := drop_missed():
        _say(f"this run stands for {missed} that were missed, too")

    def once() -> State[Any]:
        try:
            return _attempt(root, stages, settings, how)
        except httpx.HTTPError as error:
            return pipeline.failed(tracking.ServerLostError(f"Prefect's server does not answer: {error}."))
        except (tracking.TrackingError, FileNotFoundError, ValueError) as error:
            return pipeline.failed(error)

    def reason(state: State[Any]) -> str | None:
        return state.message if state.name == pipeline.PASSING else None

    return retrying.persist(once, reason, retrying.pauses(how.retries, how.retry_seconds), _say, time.sleep)


def _attempt(root: Path, stages: list[str] | None, settings: Mapping[str, Mapping[str, Any] | None], how: How) -> State[Any]:
    with _held(root, how.wait_seconds) as session, noted(root), pipeline.no_heartbeat():
        mistakes = _command(root, "check", *(word for override in forms.overrides(settings) for word in ("--set", override)))
        if mistakes.returncode:
            words = mistakes.stderr.strip().removeprefix("nasflow: ")
            return pipeline.failed(tracking.BusyError(words)) if mistakes.returncode == launch.BUSY else Failed(message=words)
        freshness.refresh(root, _say)
        session.deadline = None if how.timeout_seconds is None else time.monotonic() + how.timeout_seconds
        state = pipeline.chain(root, lineage.choose(tracking.stages(root), stages), how.force, how.wait_seconds)
        return _promoted(root, state) if how.promote_if_better and state.is_completed() else state


@contextlib.contextmanager
def _held(root: Path, wait_seconds: float) -> Iterator[tracking.Session]:
    """The project's lock and a session; says for whom it waits, where it has to."""
    with contextlib.ExitStack() as stack:
        try:
            session = stack.enter_context(tracking.session(root))
        except tracking.BusyError as error:
            _say(f"waiting: {error}")
            session = stack.enter_context(tracking.session(root, wait_seconds))
        yield session


def _promoted(root: Path, state: State[Any]) -> State[Any]:
    """The state with what became of the model added to its message; of an unchanged model it was decided before."""
    if state.name == "Cached" and released.is_decided(root):
        return state
    done = _command(root, "promote")
    if done.returncode:
        return Failed(message=f"{state.message}, but nothing was released: {done.stderr.strip().removeprefix('nasflow: ')}")
    decision = released.read_last(root)
    with contextlib.suppress(httpx.HTTPError, PrefectException):
        create_markdown_artifact(key="released-model", markdown=decision.markdown(), description="Whether the model was released, and why")
    _say(decision.sentence)
    return Completed(
        name="Cached" if state.name == "Cached" and not decision.promoted else None, message=f"{state.message}; {decision.sentence}"
    )


def _command(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command of ours in a process of its own: what it imports and holds stays out of this one."""
    command = processes.with_parent([sys.executable, "-P", "-m", "flows.cli", *words])
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def _is_told_once(record: logging.LogRecord) -> bool:
    """Not Prefect's own way from the sentence of a failed run, which it has told by then, to the end of the process."""
    return not (record.exc_info and record.exc_info[0] is not None and issubclass(record.exc_info[0], FailedRun))


def _say(line: str) -> None:
    print(f"nasflow: {line}", flush=True)
    _log.info(line)
