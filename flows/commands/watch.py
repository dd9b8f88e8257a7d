"""`nasflow watch`: how a search gets on, while it does; a live screen in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from flows.ending import errors, stoppable

if TYPE_CHECKING:  # `nasflow --help` need not wait for what reads runs
    from rich.console import RenderableType

    from flows.watching import Glance

_HEADER = ("trial", "parameters", "architecture")
_NOTE, _ARCHITECTURE = 240, 100


def watch(
    once: Annotated[bool, typer.Option("--once", help="Print how it stands now, and end.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show the search that runs, or the last one: progress, pace, time left, best so far, failures. Ends with the search."""
    with stoppable("what was watched goes on"), errors():
        from rich.console import Console

        from flows.watching import Watcher

        watcher = Watcher(Path.cwd())
        seen = watcher.look()
        if seen is None:
            print("no searches yet: `nasflow run` begins one")
            return
        if once or not seen.running:
            _print(seen)
        elif Console().is_terminal:
            _follow_live(watcher.look, seen, every)
        else:
            _follow_plainly(watcher.look, seen, every)


def _follow_live(look: Callable[[], "Glance | None"], seen: "Glance", every: float) -> None:
    from rich.live import Live

    with Live(_screen(seen), auto_refresh=False) as live:
        while seen.running:
            time.sleep(every)
            seen = look() or seen
            live.update(_screen(seen), refresh=True)


def _follow_plainly(look: Callable[[], "Glance | None"], seen: "Glance", every: float) -> None:
    """A line whenever a trial has come, and the whole in the end."""
    shown = None
    while seen.running:
        if (seen.fingerprint, seen.done, seen.rejected) != shown:
            shown = seen.fingerprint, seen.done, seen.rejected
            print(" | ".join(text for _, text in rows(seen)[1:] if text), flush=True)
        time.sleep(every)
        seen = look() or seen
    _print(seen)


def rows(seen: "Glance") -> list[tuple[str, str]]:
    """What there is to say of a search, each with its name; without a table."""
    from nas import failures

    found = [("state", f"{seen.state}{f' since {seen.since}' if seen.since else ''}")]
    planned = "" if seen.planned is None else f"/{seen.planned}"
    found.append(("trials", f"{seen.done}{planned} trials{f', {seen.rejected} rejected' if seen.rejected else ''}"))
    if seen.per_minute is not None:
        left = "" if seen.left is None else f", {duration(seen.left)} left"
        found.append(("pace", f"{seen.per_minute:.3g} per minute{left}"))
    if seen.leaders:
        found.append(("best", f"{seen.metric} {seen.leaders[0].value:.4g} (trial {seen.leaders[0].trial})"))
    if seen.failed:
        found.append(("failures", f"{sum(seen.failed.values())} failed: {failures.words(seen.failed)}"))
    if seen.note:
        found.append(("note", shorten(seen.note, _NOTE, placeholder=" …")))
    return found


def duration(seconds: float) -> str:
    """Return a duration in words, to two units: `2 h 5 min`, `40 s`."""
    whole = round(seconds)
    for large, small, length in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= length:
            rest = whole % length // {"h": 3600, "min": 60, "s": 1}[small]
            return f"{whole // length} {large} {rest} {small}" if rest else f"{whole // length} {large}"
    return f"{whole} s"


def _board(seen: "Glance") -> list[list[str]]:
    return [
        [
            str(leader.trial),
            f"{leader.value:.4g}",
            "" if leader.parameters is None else f"{leader.parameters:,}",
            shorten(leader.architecture, _ARCHITECTURE, placeholder=" …"),
        ]
        for leader in seen.leaders
    ]


def _header(seen: "Glance") -> Sequence[str]:
    return (_HEADER[0], seen.metric, *_HEADER[1:])


def _print(seen: "Glance") -> None:
    from flows import console

    console.table(f"search {seen.fingerprint}", rows(seen))
    if seen.leaders:
        console.columns(_header(seen), _board(seen))
    sys.stdout.flush()


def _screen(seen: "Glance") -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, text in rows(seen):
        grid.add_row(Text(name, style="bold"), Text(text))
    board = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in _header(seen):
        board.add_column(name, overflow="ellipsis", no_wrap=True)  # a screen that is drawn again has a fixed height
    for row in _board(seen):
        board.add_row(*map(Text, row))
    bar = ProgressBar(total=seen.planned or 1, completed=seen.done, width=60)
    return Group(Text(f"search {seen.fingerprint}", style="bold"), bar, grid, *([board] if seen.leaders else []))
