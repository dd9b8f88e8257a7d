"""What one server takes on at most."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Limits:
    """Raises ValueError for a value out of range.

    batch: rows of one request, and of one run. delay: how long the first request of a batch may wait for others, seconds; while a
    run goes on, requests gather anyway. requests: how many may be under way; the next is told to come back (503). body: bytes of
    one request. body_seconds: how long a client may take to send them. grace_seconds: how long what is under way may take when
    the server is told to end.
    """

    batch: int = 64
    delay: float = 0.0
    requests: int = 256
    body: int = 16 * 2**20
    body_seconds: float = 30.0
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("delay", 0), ("requests", 1), ("body", 1), ("body_seconds", 0), ("grace_seconds", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"the limit {name} is {getattr(self, name)}, but must be at least {least}")
