"""A bundle becomes a server: a socket, uvicorn, and an end that leaves no request unanswered."""

from collections.abc import Callable
from pathlib import Path

import uvicorn

from export.serving import listening
from export.serving.application import Application
from export.serving.limits import Limits
from export.serving.listening import BACKLOG, Place
from export.serving.model import load

KEEP_ALIVE_SECONDS = 75
"""Longer than the proxies in front keep theirs, so that no request meets a connection that is just being closed."""


def serve(folder: Path, place: Place, *, threads: int = 1, limits: Limits, announce: Callable[[str], None] = print) -> None:
    """Serve the bundle in `folder` until SIGTERM or SIGINT, which is raised again when all requests under way are answered.

    threads: of one run of the model. announce: is told the address, once it takes connections. Raises ServingError when the
    bundle is not whole, cannot run here, the name is no name, or nobody can listen there.
    """
    place.check()
    model = load(folder, name=place.name, threads=threads, largest_batch=limits.batch)
    made = listening.bound(place)
    try:
        listening.listen(made, place)
        announce(listening.announcement(made, folder, model.sha256, place))
        uvicorn.Server(configuration(Application(model, limits), limits)).run(sockets=[made])
    finally:
        made.close()


def configuration(application: Application, limits: Limits) -> uvicorn.Config:
    """How uvicorn serves `application`."""
    return uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(limits.grace_seconds),
    )
