"""`nasflow serve`: one process that runs the project whenever its schedule says so, against the chosen server or one of its own."""

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, final

from pydantic import ValidationError

from flows import forms, lineage, locks, processes, server, tracking
from flows.ending import Stopped
from nas.components import rule

FOLDER = "serve"
_POLL_SECONDS = 5.0
_STARTING_SECONDS = 0.05


class _Runner(Protocol):
    """What is used of Prefect's runner, which is imported while its server starts."""

    started: bool

    async def start(self) -> None: ...

    async def astop(self) -> None: ...


@final
@dataclass(frozen=True)
class Plan:
    """What is served: the deployment's name, when it runs, and the parameters of its runs.

    cron: in the form of Unix, in `timezone` (a name of the IANA, None for UTC). every: seconds between starts. Neither: only when asked.
    parameters: of `flows.scheduled.nasflow`, as JSON values.
    """

    name: str
    cron: str | None = None
    every: float | None = None
    timezone: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def serve(root: Path, plan: Plan) -> None:
    """Serve until Ctrl-C or SIGTERM, which end what runs; a stage that runs is paused, and the next run continues it.

    Raises TrackingError when another process serves this project or the server does not answer; ValueError for a folder that is no
    project, a stage that it does not have, a wrong schedule, and for somebody to tell whom nobody knows.
    """
    root = root.resolve()
    _check(root, plan)
    server.configure(root)
    try:
        with locks.exclusive(root / tracking.WORK / FOLDER):
            _serve(root, plan)
    except locks.HeldError as error:
        raise tracking.BusyError(f"this project is being served by {error}") from error


def _check(root: Path, plan: Plan) -> None:
    """Refuse what cannot work, before anything is made."""
    for name in ("params.yaml", "dvc.yaml"):
        if not (root / name).is_file():
            raise ValueError(f"{root} is no project, because it has no {name}: call it in the folder of a project")
    lineage.choose(tracking.stages(root), plan.parameters.get("stages"))
    target = _notified(plan)
    if target is not None and not re.fullmatch(forms.TARGET, target):
        cure = "give an address that begins with http:// or https://, or a notification block of Prefect, such as slack-webhook/team"
        raise ValueError(f"--notify is {target!r}: {cure}")


def _notified(plan: Plan) -> str | None:
    target: str | None = plan.parameters.get("how", {}).get("notify")
    return target


def _serve(root: Path, plan: Plan) -> None:
    own = None if server.is_chosen() else server.Server(root, whole=True)
    schedule(plan)  # a mistake is told before the server is started, and Prefect, which is imported here, knows its address
    if own is not None:
        own.start()
    os.environ[processes.SERVER] = str(os.getpid())
    if own is not None:
        own.wait()
    import httpx

    from flows import server_setup

    try:
        target = _notified(plan)
        if target is not None and "://" not in target:
            server_setup.find_block(target)
        server_setup.heartbeats()
        asyncio.run(_run(root, plan))
    except httpx.HTTPError as error:
        raise tracking.ServerLostError(f"Prefect's server does not answer: {error}. Start it, then serve again.") from error


def schedule(plan: Plan) -> dict[str, Any]:
    """When to run, as Prefect's deployments take it. Raises ValueError for two schedules, or one that is none."""
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    if plan.cron is not None and plan.every is not None:
        raise ValueError("--cron and --every say twice when to run: give one of them")
    try:
        if plan.cron is not None:
            return {"schedule": CronSchedule(cron=plan.cron, timezone=plan.timezone)}
        return {} if plan.every is None else {"schedule": IntervalSchedule(interval=timedelta(seconds=plan.every), timezone=plan.timezone)}
    except ValidationError as error:
        what = f"--cron {plan.cron!r}" if plan.cron is not None else f"--every {plan.every:g}"
        where = "" if plan.timezone is None else f" in {plan.timezone!r}"
        cure = "write five fields as in cron, such as '0 3 * * *', and a timezone such as Europe/Berlin"
        raise ValueError(f"{what}{where} is no schedule ({rule(error.errors()[0])}): {cure}") from error


async def _run(root: Path, plan: Plan) -> None:
    from prefect.runner import Runner
    from prefect.types.entrypoint import EntrypointType

    from flows.flow_runs import settle
    from flows.scheduled import nasflow

    when, parameters = schedule(plan), {"root": str(root), **plan.parameters}
    logging.getLogger("prefect.runner").addFilter(_is_news)
    runner = Runner(name=plan.name, limit=1, query_seconds=_POLL_SECONDS, heartbeat_seconds=server.HEARTBEAT_SECONDS)
    deployment = await nasflow.ato_deployment(
        name=plan.name,
        parameters=parameters,
        entrypoint_type=EntrypointType.MODULE_PATH,
        **when,
    )
    identity = await runner.aadd_deployment(deployment)
    await asyncio.to_thread(settle, identity, parameters if when else None)
    _announce(plan)
    await _until_stopped(runner)


async def _until_stopped(runner: "_Runner") -> None:
    """Run until a signal comes, then end the run that is under way and raise Stopped; the runner's own answer to SIGTERM forgets it."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    caught: list[int] = []

    def stop(number: int) -> None:
        caught.append(number)
        stopped.set()

    serving = asyncio.create_task(runner.start())
    while not (runner.started or serving.done()):
        await asyncio.sleep(_STARTING_SECONDS)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    await asyncio.wait([serving, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
    if caught:
        await runner.astop()
    await serving
    if caught:
        raise Stopped(caught[0])


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a run waits for the one before it, every few seconds."""
    return "at capacity" not in record.getMessage()


def _announce(plan: Plan) -> None:
    when = f"by `{plan.cron}`" if plan.cron else (f"every {plan.every:g} s" if plan.every else "when asked for")
    page = os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
    print(f"nasflow: {plan.name} runs {when}; {page or 'the server of your Prefect profile'} shows it; Ctrl-C ends it", flush=True)
    sys.stdout.flush()
