"""`nasflow serve-model`: an exported model answers requests over HTTP."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

import typer

from flows.commands import options
from flows.ending import errors, stoppable

UNSERVABLE = 2
"""The exit code where the bundle is not what its manifest says, nobody can listen there, or no process stays alive."""


@final
@dataclass(frozen=True)
class Options:
    """What can be typed behind `nasflow serve-model`."""

    folder: Annotated[Path, typer.Argument(help="The folder of the bundle.")] = Path("results/export")
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 for every one of this machine.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000
    name: Annotated[str, typer.Option(help="What requests call the model.")] = "model"
    processes: Annotated[int, typer.Option(min=1, help="Processes that answer, each with the model: as many as cores, at most.")] = 1
    threads: Annotated[int, typer.Option(min=1, help="Threads of one run of the model.")] = 1
    max_batch: Annotated[int, typer.Option(min=1, help="Rows of one request, and of one run.")] = 64
    max_delay_ms: Annotated[float, typer.Option(min=0.0, max=10_000.0, help="How long a request may wait for others to join it.")] = 0.0
    max_queue: Annotated[int, typer.Option(min=1, help="Requests under way in a process; the next is answered 503.")] = 256
    max_body_mb: Annotated[float, typer.Option(min=0.001, max=100_000.0, help="Size of one request, in MB of 1,000,000 bytes.")] = 16.0


def serve_model(chosen: Options) -> None:
    """Serve an exported model over HTTP: the Open Inference Protocol (KServe v2), with metrics at /metrics."""
    with stoppable("what was under way has been answered"), errors():
        from export.serving.errors import ServingError
        from export.serving.limits import Limits
        from export.serving.listening import Place
        from flows import console

        limits = Limits(
            batch=chosen.max_batch, delay=chosen.max_delay_ms / 1000, requests=chosen.max_queue, body=round(chosen.max_body_mb * 1e6)
        )
        try:
            place = Place(chosen.host, chosen.port, chosen.name)
            if chosen.processes == 1:
                from export.serving.server import serve

                serve(chosen.folder, place, threads=chosen.threads, limits=limits, announce=_announce)
            else:
                from export.serving.processes import serve_together

                serve_together(chosen.folder, place, threads=chosen.threads, limits=limits, processes=chosen.processes, announce=_announce)
        except ServingError as error:
            console.fail(f"nasflow: {error}")
            sys.exit(UNSERVABLE)


def _announce(line: str) -> None:
    print(line, flush=True)


command = options.command(Options, serve_model)
