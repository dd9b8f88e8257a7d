"""What a stage shows in Prefect: its progress and leaderboard while it runs, its summary when it is done.

A stage knows nothing of Prefect: it rewrites `.nasflow/progress/<stage>.json` and leaves `results/<stage>/summary.json`.
"""

import contextlib
import contextvars
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from flows.markdown import cell
from flows.tracking import WORK

_SECONDS = 1.0
# What a lost or overloaded server raises; showing is never worth a stage.
_LOST = (httpx.HTTPError, PrefectException)
_log = logging.getLogger("prefect.extra.nasflow")


@dataclass(frozen=True)
class Progress:
    """One state of a running stage: `done` of `total`, a line of text, and at most about ten leaderboard rows."""

    done: int
    total: int
    text: str
    table: tuple[dict[str, Any], ...] = ()


def read_progress(root: Path, stage: str) -> Progress | None:
    """What the stage last wrote to .nasflow/progress/<stage>.json; None when there is nothing, or nothing of that form."""
    try:
        content = json.loads((root / WORK / "progress" / f"{stage}.json").read_text())
        return Progress(int(content["done"]), int(content["total"]), str(content["text"]), tuple(content.get("table", ())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextlib.contextmanager
def live(root: Path, stage: str) -> Iterator[None]:
    """Show the progress of `stage` from a thread while the block runs, and once more at its end."""
    done = threading.Event()
    # The thread needs the flow run's context: without it artifacts belong to no run, and Prefect looks for another server.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(_follow, root, stage, done), daemon=True, name=f"{stage}-progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def publish(root: Path, stage: str) -> None:
    """Show results/<stage>/summary.json, and the tables of results/<stage>/tables.md, as markdown; a stage without them shows nothing."""
    shown = {"result": (summary(root, stage), "Result"), "tables": (tables(root, stage), "Tables")}
    for name, (text, title) in shown.items():
        if text is not None:
            with contextlib.suppress(*_LOST):
                create_markdown_artifact(key=f"{key(stage)}-{name}", markdown=text, description=f"{title} of stage {stage}")


def summary(root: Path, stage: str) -> str | None:
    """results/<stage>/summary.json as markdown: its title, and a table of its lines; None when missing or not of that form."""
    try:
        content = json.loads((root / "results" / stage / "summary.json").read_text())
        rows = [f"| {cell(label)} | {cell(value)} |" for label, value in content["lines"]]
        return "\n".join([f"### {content['title']}", "", "| | |", "|---|---|", *rows])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def tables(root: Path, stage: str) -> str | None:
    """results/<stage>/tables.md as it is; None when a stage writes none."""
    try:
        return (root / "results" / stage / "tables.md").read_text()
    except (OSError, ValueError):
        return None


def key(stage: str) -> str:
    """`stage` in the letters that Prefect allows in the key of an artifact."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stage.lower())


def _follow(root: Path, stage: str, done: threading.Event) -> None:
    start, shown = time.time(), _Shown(key(stage))
    path = root / WORK / "progress" / f"{stage}.json"
    last = False
    while not last:
        last = done.wait(_SECONDS)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < start:  # left by an earlier run
                continue
        progress = read_progress(root, stage)
        if progress is None:
            continue
        try:
            shown.update(progress)
        except _LOST as error:
            _log.warning("progress of %s is no longer shown: %s", stage, error)
            return


@final
class _Shown:
    """The artifacts of one running stage: made once, then rewritten, because every new artifact stays in the database."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._progress: Progress | None = None
        self._bar: UUID | None = None
        self._board: UUID | None = None

    def update(self, progress: Progress) -> None:
        before, self._progress = self._progress, progress
        if progress == before:
            return
        share = 100.0 * progress.done / max(progress.total, 1)
        if self._bar is None:
            bar = create_progress_artifact(progress=share, key=f"{self._stage}-progress", description=progress.text)
            self._bar = cast(UUID, bar)  # Prefect types these for async callers too
        else:
            update_progress_artifact(self._bar, progress=share, description=progress.text)
        if not progress.table or (before is not None and progress.table == before.table):
            return
        rows = list(progress.table)
        if self._board is None:
            board = create_table_artifact(table=rows, key=f"{self._stage}-leaderboard", description=f"Best of {self._stage}")
            self._board = cast(UUID, board)
        else:
            get_client(sync_client=True).update_artifact(self._board, ArtifactUpdate(data=json.dumps(rows)))
