"""Flow runs whose process was killed: Prefect goes on calling them Running, so the next run here finds them and says Crashed.

A run holds the lock of `.nasflow/flow-runs/<its id>/` as long as it lives; the kernel lets go of it whatever ends the process.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Crashed

from flows import locks
from flows.tracking import WORK

FOLDER = "flow-runs"


@contextlib.contextmanager
def noted(root: Path) -> Iterator[None]:
    """Note the present flow run while the block runs, after earlier ones that were killed have been set Crashed.

    Whoever enters holds the project's lock, so that no other run begins or ends here meanwhile. Outside a flow run this does nothing.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    folder = root / WORK / FOLDER
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if not locks.is_held(path) and _crashed(path.name):
            shutil.rmtree(path, ignore_errors=True)
    note = folder / str(context.flow_run.id)
    with locks.exclusive(note):
        yield
    shutil.rmtree(note, ignore_errors=True)


def drop_missed() -> int:
    """Take away the scheduled runs of the present run's deployment whose time has come already; returns how many.

    They piled up while nobody served or an earlier run took long, and would find nothing to do: this run does their work. Runs that a
    person asked for stay. Without a deployment, or without an answer of the server, this does nothing.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        return 0
    count = 0
    with contextlib.suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as client:
        for run in _missed(client, context.flow_run.deployment_id):
            if run.id != context.flow_run.id:
                client.delete_flow_run(run.id)
                count += 1
    return count


def settle(deployment: UUID, parameters: Mapping[str, Any] | None) -> None:
    """Settle what a killed `nasflow serve` has left of a deployment, before it is served again.

    Runs that it was about to start are set Crashed. Scheduled runs whose time has come get the `parameters` that the deployment has now,
    since Prefect replaces those of the future alone; None takes them away, because nothing is scheduled any more. Runs that a person
    asked for stay as they were asked for. Raises httpx.HTTPError when the server does not answer.
    """
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=_of(deployment, StateType.PENDING)):
            lost: State[None] = Crashed(message="what was about to start it was killed")
            client.set_flow_run_state(run.id, lost, force=True)
        for run in _missed(client, deployment):
            if parameters is None:
                client.delete_flow_run(run.id)
            else:
                client.update_flow_run(run.id, parameters=dict(parameters))


def _missed(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """Runs that the clock asked for, whose time has come."""
    runs = client.read_flow_runs(flow_run_filter=_of(deployment, StateType.SCHEDULED))
    return [run for run in runs if run.auto_scheduled]


def _of(deployment: UUID, kind: StateType) -> FlowRunFilter:
    """Runs of a deployment in states of one kind that were to start before now."""
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[kind])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )


def _crashed(identity: str) -> bool:
    """Set a run Crashed that says it is under way; whether its note is done with."""
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectNotFound, ValueError):  # a run of another server, or no note of ours
            run = client.read_flow_run(UUID(identity))
            if run.state is None or not run.state.is_final():
                state: State[None] = Crashed(message="its process is gone; the run that came after it found that and continues its work")
                client.set_flow_run_state(run.id, state, force=True)
        return True
    return False
