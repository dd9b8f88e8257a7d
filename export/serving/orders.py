"""What a server's parent and its processes say to each other.

Two pairs of sockets join each process to the parent. Orders are single bytes, so that a connection, whose descriptor comes with its
byte, and the end come in the order in which they were sent. Reports are lines of JSON, a list that begins with a word.
"""

import dataclasses
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self, final

import orjson

from export.serving.limits import Limits

LONGEST = 16 * 2**20
"""Bytes of a report."""


@final
class Order(Enum):
    """What the parent sends: a connection to serve, a wish to know what was counted, whether all processes are ready, and the end."""

    CONNECTION = b"c"
    COUNT = b"n"
    COMPLETE = b"w"
    INCOMPLETE = b"i"
    END = b"e"


@final
class Report:
    """The words that reports begin with.

    Of a process: the model is loaded; the bundle cannot be served (and why); a connection has been taken; one has been closed; what
    was counted (and the counts); somebody asks for the numbers of the server. Of the parent: these numbers (and the text).
    """

    READY = "ready"
    REFUSED = "refused"
    TAKEN = "taken"
    CLOSED = "closed"
    COUNTS = "counts"
    ASKED = "asked"
    NUMBERS = "numbers"


def line(word: str, *more: Any) -> bytes:
    """A report as it is sent."""
    return orjson.dumps([word, *more]) + b"\n"


@final
@dataclass(frozen=True)
class Start:
    """What a process is told when it starts. parent: its process id. orders, reports, bundle: descriptors. threads: of one run."""

    parent: int
    orders: int
    reports: int
    bundle: int
    name: str
    threads: int
    limits: Limits

    def text(self) -> str:
        """All of it as one word of a command line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def parsed(cls, text: str) -> Self:
        """What `text` has written."""
        found = json.loads(text)
        return cls(**found | {"limits": Limits(**found["limits"])})
