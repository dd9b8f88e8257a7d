"""`nasflow watch`: how a search gets on, while it does; a live screen in a terminal, plain lines elsewhere."""

import re
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.ending import errors, stoppable

if TYPE_CHECKING:  # `nasflow --help` need not wait for what reads runs
    from rich.console import RenderableType

    from flows.watching import Glance

_NOTE = 240
_GAP, _LEAST = 2, 16
"""Letters between two columns, and of an architecture in the narrowest terminal."""
_ABOVE = 10
"""Lines of a screen above its leaders."""
_UNBROKEN = "\N{NO-BREAK SPACE}"


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

    with Live(auto_refresh=False) as live:
        live.update(_screen(seen, *live.console.size), refresh=True)
        while seen.running:
            time.sleep(every)
            seen = look() or seen
            width, height = live.console.size
            live.update(_screen(seen, width, height if seen.running else None), refresh=True)  # what stays may be as high as it is


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
        best = seen.leaders[0]
        figures = [f"{name} {_figure(value)}" for name, value in zip(seen.metrics, best.values, strict=True)]
        found.append(("best", f"{', '.join(figures)} (trial {best.trial})"))
    if seen.failed:
        found.append(("failures", f"{sum(seen.failed.values())} failed: {failures.words(seen.failed)}"))
    if seen.note:
        found.append(("note", textwrap.shorten(seen.note, _NOTE, placeholder=" …")))
    return found


def duration(seconds: float) -> str:
    """Return a duration in words, to two units: `2 h 5 min`, `40 s`."""
    whole = round(seconds)
    for large, small, length in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= length:
            rest = whole % length // {"h": 3600, "min": 60, "s": 1}[small]
            return f"{whole // length} {large} {rest} {small}" if rest else f"{whole // length} {large}"
    return f"{whole} s"


def _figures(seen: "Glance") -> list[list[str]]:
    """The leaders under their header, without their architectures: their numbers, what is searched for, and how large they are."""
    sizes = ("parameters",) if "parameters" not in seen.metrics else ()
    found = [["trial", *seen.metrics, *sizes]]
    for leader in seen.leaders:
        size = "" if leader.parameters is None else f"{leader.parameters:,}"
        found.append([str(leader.trial), *map(_figure, leader.values), *([size] if sizes else [])])
    return found


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _architectures(seen: "Glance") -> list[str]:
    """The best in full, and of the others what they have otherwise: good ones are much alike."""
    from flows import results

    best = seen.leaders[0]
    found = ["; ".join(results.parts(best.architecture))]
    for leader in seen.leaders[1:]:
        other = {name: option for name, option in leader.architecture.items() if best.architecture.get(name) != option}
        found.append(f"as {best.trial}, but {'; '.join(results.parts(other))}" if other else f"as {best.trial}")
    return found


def _broken(text: str, width: int, lines: int | None = None) -> str:
    """Text in lines of a width, at most so many; no choice is parted from its option."""
    kept = re.sub(r"(?<![,;:]) ", _UNBROKEN, text)
    found = textwrap.wrap(kept, width, max_lines=lines, placeholder=" …", break_on_hyphens=False)
    return "\n".join(found).replace(_UNBROKEN, " ")


def board(seen: "Glance", width: int | None = None, height: int | None = None) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the leaders. The figures keep their width, and the architectures give way.

    width: letters in a line, height: lines of the screen, which the rows leave room on; None where there is no limit.
    """
    header, *figures = _figures(seen)
    told = _architectures(seen)
    if width is not None:
        used = sum(max(map(len, column)) + _GAP for column in zip(header, *figures, strict=True))
        most = None if height is None else max(1, (height - _ABOVE) // len(seen.leaders))
        told = [_broken(text, max(_LEAST, width - used), most) for text in told]
    return [*header, "architecture"], [[*row, text] for row, text in zip(figures, told, strict=True)]


def _print(seen: "Glance") -> None:
    from rich.console import Console

    from flows import console

    console.table(f"search {seen.fingerprint}", rows(seen))
    terminal = Console()
    if seen.leaders:
        console.columns(*board(seen, terminal.width if terminal.is_terminal else None))
    sys.stdout.flush()


def _screen(seen: "Glance", width: int, height: int | None) -> "RenderableType":
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, text in rows(seen):
        grid.add_row(Text(name, style="bold"), Text(text))
    leaders = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    if seen.leaders:
        header, lines = board(seen, width, height)
        for name in header:
            leaders.add_column(name, no_wrap=True)
        for row in lines:
            leaders.add_row(*map(Text, row))
    bar = Padding(ProgressBar(total=seen.planned or 1, completed=seen.done, width=60), 0)  # alone it would not end its line
    return Group(Text(f"search {seen.fingerprint}", style="bold"), bar, grid, *([leaders] if seen.leaders else []))
