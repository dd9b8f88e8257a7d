"""`nasflow serve` and `nasflow setup-server`: runs by a schedule, and what a Prefect server needs for them once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

import typer

from flows.commands import options
from flows.commands.stages import METAVAR, Stage, named
from flows.ending import errors, stoppable


@final
@dataclass(frozen=True)
class Options:
    """What can be typed behind `nasflow serve`."""

    cron: Annotated[str | None, typer.Option(help='When to run, as in cron: "0 3 * * *" is every night at three.')] = None
    every: Annotated[float | None, typer.Option(min=1, help="Seconds from one start to the next, instead of --cron.")] = None
    timezone: Annotated[str | None, typer.Option(help="Where --cron is meant, such as Europe/Berlin; UTC by default.")] = None
    name: Annotated[str | None, typer.Option(help="What Prefect calls the deployment; the folder's name by default.")] = None
    stages: Annotated[
        list[Stage] | None, typer.Option("--stage", parser=named, metavar=METAVAR, help="Only this stage; may be given again.")
    ] = None
    promote_if_better: Annotated[
        bool, typer.Option("--promote-if-better", help="Release a model that is better than the released one.")
    ] = False
    notify: Annotated[str | None, typer.Option(help="Who is told of failures and new results: a URL, or a block as type/name.")] = None
    timeout: Annotated[float | None, typer.Option(min=1, help="Seconds a run may take; the next one continues it.")] = None
    retries: Annotated[int, typer.Option(min=0, help="Further tries after failures of the machine or the network.")] = 3
    retry_seconds: Annotated[float, typer.Option(min=0, help="Wait before the first of them; each next wait is twice as long.")] = 30.0

    def parameters(self) -> dict[str, Any]:
        """The parameters of every run."""
        how: dict[str, Any] = {"promote_if_better": self.promote_if_better, "notify": self.notify, "timeout_seconds": self.timeout}
        how |= {"retries": self.retries, "retry_seconds": self.retry_seconds}
        return {"stages": [stage.value for stage in self.stages] if self.stages else None, "how": how}


def serve(chosen: Options) -> None:
    """Run the pipeline by a schedule, and whenever Prefect's pages ask; ends with Ctrl-C. Unchanged data and settings run nothing."""
    with stoppable("serve again to continue"), errors():
        from flows import serve as serving

        root = Path.cwd()
        plan = serving.Plan(chosen.name or root.resolve().name, chosen.cron, chosen.every, chosen.timezone, chosen.parameters())
        serving.serve(root, plan)


def setup_server() -> None:
    """Make what a Prefect server needs once: a work pool for prefect.yaml, and a rule that finds runs whose machine died."""
    with errors():
        from flows import server

        server.configure(Path.cwd())
        if not server.is_chosen():
            raise ValueError("no Prefect server is chosen: start one with `prefect server start`, and name it in PREFECT_API_URL")
        import httpx

        from flows import server_setup

        try:
            made = {
                f"work pool '{server_setup.POOL}'": server_setup.work_pool(),
                f"automation '{server_setup.RULE}'": server_setup.heartbeats(),
            }
        except httpx.HTTPError as error:
            raise ValueError(f"Prefect's server does not answer ({error}): start it, or correct PREFECT_API_URL") from error
        for what, new in made.items():
            print(f"{what} {'was made' if new else 'is there'}")
        print(f"next: `prefect --no-prompt deploy --all`, and `prefect worker start --pool {server_setup.POOL}` where the project is")


command = options.command(Options, serve)
