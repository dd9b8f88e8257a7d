"""What a Prefect server needs once: a rule that finds runs whose machine died, and a work pool for deployments of prefect.yaml."""

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from flows.server import HEARTBEAT_SECONDS

RULE = "nasflow: a run without a heartbeat has crashed"
POOL = "nasflow"
SILENT_SECONDS = 4 * HEARTBEAT_SECONDS
"""How long a run may say nothing before it counts as dead."""


def heartbeats() -> bool:
    """Make the rule that sets runs of nasflow Crashed when their heartbeats stop; returns whether it had to be made.

    A killed process is noticed by what started it, and by the next run on the same copy of the project. This rule is for machines that
    lose power: nobody is left there to tell. Raises httpx.HTTPError when the server does not answer.
    """
    rule = AutomationCore(
        name=RULE,
        description="Made by nasflow: its runs send a heartbeat every half minute, and their machine is gone when none comes.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={
                "prefect.flow-run.heartbeat",
                *(f"prefect.flow-run.{name}" for name in ("Completed", "Cached", "Failed", "Interrupted", "Cancelled", "Crashed")),
            },
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": ["nasflow", "pipeline"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="its heartbeats have stopped: the machine or the process is gone")],
    )
    with get_client(sync_client=True) as client:
        if client.read_automations_by_name(RULE):
            return False
        client.create_automation(rule)
        return True


def find_block(target: str) -> None:
    """Do nothing where the server has the notification block `target`, named as type/name.

    Raises ValueError where it has none or one that notifies nobody, httpx.HTTPError when the server does not answer.
    """
    kind, _, name = target.partition("/")
    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_document_by_name(name, kind)
        except ObjectNotFound:
            cure = "make it in the server's pages, under Blocks (`nasflow serve` without --notify shows them), then serve again"
            raise ValueError(f"--notify is {target}, but Prefect's server has no such block: {cure}") from None
    if found.block_schema is None or "notify" not in found.block_schema.capabilities:
        raise ValueError(f"--notify is {target}, a block that notifies nobody: name one of a type that does, such as slack-webhook")


def work_pool(name: str = POOL) -> bool:
    """Make the work pool of prefect.yaml, whose runs are processes of the machine of the worker; returns whether it had to be made.

    Raises httpx.HTTPError when the server does not answer.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
            return False
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
            return True
