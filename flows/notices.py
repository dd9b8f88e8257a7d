"""Whoever asked for it is told how a run ended: by a POST to a web address, or by a notification block of Prefect."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from prefect import Flow, State
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.utilities.urls import url_for

_TRIES, _TIMEOUT_SECONDS = 3, 10.0
_log = logging.getLogger("prefect.extra.nasflow")


def tell(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell the target in the run's parameters how the run ended; a run that had nothing to do is not worth a word.

    A target that cannot be reached is a warning in the log: what was found stays found.
    """
    how: Mapping[str, Any] = flow_run.parameters.get("how") or {}
    target = how.get("notify")
    if target is None or state.name == "Cached":
        return
    try:
        send(str(target), notice(flow_run, state))
    except (httpx.HTTPError, PrefectException, ValueError, OSError) as error:
        _log.warning("nobody could be told how the run ended: %s", error)


def notice(flow_run: FlowRun, state: State[Any]) -> dict[str, Any]:
    """What is told: JSON values."""
    project = Path(str(flow_run.parameters.get("root", "."))).resolve().name
    return {
        "project": project,
        "run": flow_run.name,
        "run_id": str(flow_run.id),
        "state": state.name,
        "type": state.type.value,
        "message": state.message,
        "at": state.timestamp.isoformat(),
        "page": url_for("flow-run", obj_id=flow_run.id),
    }


def send(target: str, content: Mapping[str, Any]) -> None:
    """Post to an address, three times at most, or hand a block its text. Raises httpx.HTTPError, or ValueError for an unknown block."""
    if not target.startswith(("http://", "https://")):
        text = f"{content['project']}: {content['state']}. {content['message'] or ''}\n{content['page'] or ''}".strip()
        block: Any = Block.load(target)
        block.notify(text, subject=f"nasflow: {content['project']} {content['state']}")
        return
    for number in range(_TRIES):
        try:
            httpx.post(target, json=dict(content), timeout=_TIMEOUT_SECONDS).raise_for_status()
            return
        except httpx.HTTPError:
            if number + 1 == _TRIES:
                raise
            time.sleep(2.0**number)
