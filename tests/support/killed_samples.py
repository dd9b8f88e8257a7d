"""Runs that show whether kills are noticed: one that cannot go on exactly, and one that fails."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final


@final
@dataclass(frozen=True)
class Forgetful:
    """Says how often it began, which a run that goes on exactly could not know."""

    def run(self, folder: Path, ready: Callable[[], None]) -> None:
        """Begin, and count to 20 for a while."""
        ready()
        with (folder / "begun").open("a") as file:
            file.write("x")
        for number in range(20):
            time.sleep(0.01)
            (folder / "new").write_text(str(number))
            os.replace(folder / "new", folder / "number")

    def content(self, folder: Path) -> Mapping[str, Any]:
        """What a repetition shows, and what it does not."""
        return {name: (folder / name).read_text() for name in ("begun", "number")}


@final
@dataclass(frozen=True)
class Raising:
    """Fails."""

    def run(self, folder: Path, ready: Callable[[], None]) -> None:
        """Fail at once. Raises ValueError."""
        raise ValueError("no such thing")

    def content(self, folder: Path) -> Mapping[str, Any]:
        """Nothing."""
        return {}
