"""What a person sees while a stage runs: one progress line with the time left; plain lines where there is no terminal."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flows.tracking import WORK
from nas import atomic

Row = dict[str, str | int | float | None]
_PLAIN_SECONDS = 5.0
_FILE_SECONDS = 0.5
_POINTS = 30
_AT_ONCE_SECONDS = 0.02


class Reporter(Protocol):
    """Takes progress: how much is done, what was decided, and the best so far."""

    def __call__(self, done: int, text: str, table: Sequence[Row] = ()) -> None:
        """Show progress."""


@contextmanager
def progress(root: Path, stage: str, total: int) -> Iterator[Reporter]:
    """Show the progress of a stage, and keep it in `.nasflow/progress/<stage>.json` for whoever watches from outside."""
    folder = root / WORK / "progress"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    show = _Bar(console, stage, total) if console.is_terminal else _Lines(stage, total)
    last, pace = 0.0, _Pace()

    def report(done: int, text: str, table: Sequence[Row] = ()) -> None:
        nonlocal last
        show.update(done, text)
        pace.report(done)
        if done >= total or time.monotonic() - last > _FILE_SECONDS:
            last = time.monotonic()
            state = {"done": done, "total": total, "text": text, "table": list(table), "pace": pace.points(done)}
            atomic.write_json(folder / f"{stage}.json", state)

    with show:
        yield report


class _Pace:
    """When how much was done: seconds since 1970 and a count, of the last states that were written."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque(maxlen=_POINTS)
        self._last = 0.0

    def report(self, done: int) -> None:
        """Begin where trials take time: those of an earlier process come at once, and say nothing of the pace."""
        now = time.time()
        if not self._points or (len(self._points) == 1 and now - self._last < _AT_ONCE_SECONDS):
            self._points.clear()
            self._points.append((now, done))
        self._last = now

    def points(self, done: int) -> list[tuple[float, int]]:
        """Add a state, and return all that are kept, the oldest first."""
        if self._points[-1][1] != done:
            self._points.append((time.time(), done))
        return list(self._points)


class _Bar:
    def __init__(self, console: Console, stage: str, total: int) -> None:
        text = TextColumn("[bold]{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left")
        self._bar = Progress(*text, TimeRemainingColumn(), _live_text(), console=console)
        self._task = self._bar.add_task(stage, total=total, text="")

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, done: int, text: str) -> None:
        self._bar.update(self._task, completed=done, text=text)


def _live_text() -> TextColumn:
    return TextColumn("{task.fields[text]}", markup=False)  # errors name paths in brackets, which markup would swallow


class _Lines:
    def __init__(self, stage: str, total: int) -> None:
        self._stage, self._total = stage, total
        self._start = self._last = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, done: int, text: str) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._start = done, now  # starting workers takes seconds that say nothing of the pace
        if done < self._total and now - self._last < _PLAIN_SECONDS:
            return
        self._last = now
        speed = (done - self._first) / (now - self._start) if now > self._start else 0.0
        left = f", {(self._total - done) / speed:.0f} s left" if speed and done < self._total else ""
        print(f"{self._stage}: {done}/{self._total}{left}{' | ' + text if text else ''}", flush=True)


def say(line: str) -> None:
    """Print a line of what was decided and why."""
    print(line, flush=True)


def table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a table of two columns; plain aligned text where there is no terminal."""
    console = Console()
    if not console.is_terminal:
        width = max(len(label) for label, _ in rows)
        indent = "\n" + " " * (width + 4)
        print("\n".join([title, *(f"  {label:<{width}}  {value.replace(chr(10), indent)}" for label, value in rows)]), flush=True)
        return
    grid = Table(title=Text(title), title_justify="left", show_header=False)
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header; plain aligned text where there is no terminal."""
    console = Console()
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip(), flush=True)
        return
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in header:
        grid.add_column(Text(name), overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def fail(message: str) -> None:
    """Print what went wrong to standard error, without a traceback."""
    print(message, file=sys.stderr, flush=True)


def summary(title: str, rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return what `summary.json` of a stage holds."""
    return {"title": title, "lines": [list(row) for row in rows]}
