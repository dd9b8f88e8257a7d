"""What is told of a model: links, each with its facts, and with what is wrong with it or cannot be checked here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, final


@final
class State(StrEnum):
    """Whether a link holds, cannot be checked here as a whole, or is broken."""

    HOLDS = "holds"
    OPEN = "open"
    BROKEN = "broken"


@final
@dataclass(frozen=True)
class Link:
    """One step from the file to the commit.

    `facts` are labels and what they say, in words or as a whole number. `broken` holds a sentence for everything that is not as it was
    recorded, `unchecked` one for everything that could not be compared, both with a cure.
    """

    name: str
    title: str
    facts: Sequence[tuple[str, str | int]] = ()
    broken: Sequence[str] = ()
    unchecked: Sequence[str] = ()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The facts as a person reads them."""
        return [(name, f"{value:,}" if isinstance(value, int) else value) for name, value in self.facts]

    @property
    def state(self) -> State:
        """What the findings amount to."""
        return State.BROKEN if self.broken else State.OPEN if self.unchecked else State.HOLDS


@final
@dataclass(frozen=True)
class Ancestor:
    """A trial that the architecture descends from, or its own.

    `made` says how it was made. `changed` holds the choices in which it differs from all that it was made from: what each of these has,
    and what it has itself.
    """

    trial: int
    sources: Sequence[int]
    made: str
    score: str
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Chain:
    """All links, from the file on; the ancestors, nearest first, the trial of the architecture itself at the head."""

    file: str
    links: Sequence[Link]
    ancestors: Sequence[Ancestor]

    @property
    def state(self) -> State:
        """Broken as soon as one link is; whole only where all hold."""
        states = [link.state for link in self.links]
        return next((state for state in (State.BROKEN, State.OPEN) if state in states), State.HOLDS)

    @property
    def code(self) -> int:
        """The exit code: 1 where a link is broken, else 0."""
        return int(self.state == State.BROKEN)

    def sentence(self) -> str:
        """The answer, in one sentence."""
        named = {state: [link.name for link in self.links if link.state == state] for state in State}
        if self.state == State.HOLDS:
            return f"{self.file}: the chain is whole, from the file to the commit"
        if self.state == State.BROKEN:
            return f"{self.file}: the chain is broken at {listed(named[State.BROKEN])}"
        return f"{self.file}: nothing is broken, but {listed(named[State.OPEN])} could not be checked as a whole"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values: {"file", "state", "links": [...], "ancestors": [...]}."""
        links = [{**asdict(link), "facts": dict(link.facts), "state": link.state.value} for link in self.links]
        return {"file": self.file, "state": self.state.value, "links": links, "ancestors": [asdict(one) for one in self.ancestors]}


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as `1 file` and `2 files`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str]) -> str:
    """Names as a person lists them; there is one at least."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
