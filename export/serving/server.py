"""A bundle becomes a server: a socket, uvicorn, and an end that leaves no request unanswered."""

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import uvicorn

from export.serving.application import Application
from export.serving.errors import ServingError
from export.serving.limits import Limits
from export.serving.model import load

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""Longer than the proxies in front keep theirs, so that no request meets a connection that is just being closed."""


@final
@dataclass(frozen=True)
class Place:
    """Where to listen. port: 0 takes a free one. name: what requests call the model."""

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = "model"


def serve(folder: Path, place: Place, *, threads: int = 1, limits: Limits, announce: Callable[[str], None] = print) -> None:
    """Serve the bundle in `folder` until SIGTERM or SIGINT, which is raised again when all requests under way are answered.

    threads: of one run of the model. announce: is told the address, once it takes connections. Raises ServingError when the
    bundle is not whole, cannot run here, the name is no name, or nobody can listen there.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", place.name):
        raise ServingError(f"the model's name is {place.name!r}, but must be letters, digits, dots, dashes and underscores: choose another")
    model = load(folder, name=place.name, threads=threads, largest_batch=limits.batch)
    listening = _listening(place)
    try:
        host, port = listening.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        announce(f"serving {folder / 'model.onnx'} (sha256 {model.sha256[:12]}) at http://{address}/v2/models/{model.name}")
        uvicorn.Server(_configuration(Application(model, limits), limits)).run(sockets=[listening])
    finally:
        listening.close()


def _listening(place: Place) -> socket.socket:
    """A socket that takes connections from now on; they wait until the server runs."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.socket(found[0][0], socket.SOCK_STREAM)
        try:
            # A server that has just ended leaves its port in a state that would keep the next one waiting for a minute.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(found[0][4])
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ServingError(f"nobody can listen at {place.host}:{place.port} ({error.strerror}): choose another --host or --port") from error
    return listening


def _configuration(application: Application, limits: Limits) -> uvicorn.Config:
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
