"""Where a server listens: the address, the socket, and the sentence that says so."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import final

from export.serving.errors import ServingError

BACKLOG = 2048


@final
@dataclass(frozen=True)
class Place:
    """Where to listen. port: 0 takes a free one. name: what requests call the model."""

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = "model"

    def check(self) -> None:
        """Raise ServingError when the name is no name."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ServingError(
                f"the model's name is {self.name!r}, but must be letters, digits, dots, dashes and underscores: choose another"
            )


def bound(place: Place) -> socket.socket:
    """A socket that has its address and takes no connections yet. Raises ServingError when nobody can listen there."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        made = socket.socket(found[0][0], socket.SOCK_STREAM)
        try:
            # A server that has just ended leaves its port in a state that would keep the next one waiting for a minute.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(found[0][4])
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise _nobody(place, error) from error
    return made


def listen(made: socket.socket, place: Place) -> None:
    """Take connections from now on; they wait until somebody serves them. Raises ServingError as `bound` does."""
    try:
        made.listen(BACKLOG)
    except OSError as error:
        raise _nobody(place, error) from error


def announcement(made: socket.socket, folder: Path, sha256: str, place: Place) -> str:
    """Which bundle is served, and where."""
    host, port = made.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"serving {folder / 'model.onnx'} (sha256 {sha256[:12]}) at http://{address}/v2/models/{place.name}"


def _nobody(place: Place, error: OSError) -> ServingError:
    return ServingError(f"nobody can listen at {place.host}:{place.port} ({error.strerror}): choose another --host or --port")
