"""What several spaces check settings and architectures with, and name decisions by."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Entry = TypeVar("Entry", int, float, str)


def each_once(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries of a setting. Raises ValueError when one occurs twice."""
    if len(set(entries)) != len(entries):
        raise ValueError(f"{list(entries)} holds an entry twice: give each once")
    return entries


def answer(architecture: Mapping[str, str], name: str, options: Sequence[str]) -> str:
    """Return the option that an architecture picks. Raises KeyError when it picks none, ValueError when it is not one of the options."""
    if name not in architecture:
        raise KeyError(f"the architecture does not answer {name}: pick one of {', '.join(options)}")
    if architecture[name] not in options:
        raise ValueError(f"{name} is {architecture[name]!r}: pick one of {', '.join(options)}")
    return architecture[name]


def block_name(stage: int, block: int) -> str:
    """Return the name of the decision on a block of a stage."""
    return f"stage_{stage}.block_{block}"
