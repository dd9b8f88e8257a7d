"""The checkpoint of a training that is not over: the same training takes it up after it was interrupted, and no other."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from nas import atomic, checkpoint
from nas.checkpoint import CheckpointError


@final
class Unfinished:
    """One file, and the record of the training that it belongs to: numbers, text, lists and dicts that determine every step."""

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self._path, self._record = path, dict(record)

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, on the CPU; None when nothing was, when it is damaged, or another training's.

        It only saves time, so there is nothing that anybody should do about a damaged one.
        """
        try:
            state = checkpoint.load(self._path, "record", "state")
        except (OSError, CheckpointError):
            return None
        found: dict[str, Any] = state["state"]
        return found if state["record"] == self._record else None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace what was saved, durably and at once. Where the disk or memory has no room for it, training goes on without."""
        with suppress(OSError, MemoryError):
            atomic.make_folder(self._path.parent)
            checkpoint.save(self._path, {"record": self._record, "state": dict(state)})

    def remove(self) -> None:
        """Remove the file, and what writing it left behind when it was interrupted; one that cannot be removed does no harm."""
        with suppress(OSError):
            for path in (self._path, *self._path.parent.glob(f".{self._path.name}.*")):
                path.unlink(missing_ok=True)
