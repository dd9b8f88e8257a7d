"""`nasflow runs`: the runs of a project, and the removal of those that nobody needs."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.ending import errors

if TYPE_CHECKING:  # `nasflow --help` need not wait for what reads runs
    from flows.runs import Run

app = typer.Typer(invoke_without_command=True, help="List the runs below .nasflow, or remove those that nobody needs.")
_UNITS = ("B", "KiB", "MiB", "GiB")
_AGES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


@app.callback()
def table(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list instead of a table.")] = False
) -> None:
    """List the runs: stage, fingerprint, state, trials, best, size, age, and what refers to them."""
    if context.invoked_subcommand is not None:
        return
    with errors():
        from flows import run_state, runs

        found = runs.find(Path.cwd())
        if as_json:
            print(json.dumps([_record(run) for run in found], indent=2))
        elif found:
            _show([_row(run) for run in found])
            for run in found:
                if run.note:
                    note = shorten(run.note, _NOTE, placeholder=" … (`nasflow runs --json` has all of it)")
                    print(f"{run.name} {run_state.WORDS[run.state]}: {note}")
        else:
            print("no runs yet: `nasflow run` begins one")


@app.command()
def clean(
    unfinished: Annotated[bool, typer.Option("--all", help="Remove killed, paused and failed runs, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove finished runs that no results refer to; never one that runs, nor one that results or params.yaml name."""
    with errors():
        from flows import runs

        root = Path.cwd()
        decisions = runs.decide(root, unfinished)
        for decision in decisions:
            if decision.kept:
                print(f"keeps {decision.run.name}: {decision.kept}")
        going = [decision.run for decision in decisions if not decision.kept]
        for run in going:
            print(f"{'would remove' if dry_run else 'to remove'} {run.name}: {run.state}, {_size(run.bytes)}")
        if dry_run or not going:
            print(f"would free {_size(sum(run.bytes for run in going))}" if going else "nothing to remove")
            return
        _confirm(len(going), yes)
        freed = [runs.remove(root, run) for run in going]
        for run, size in zip(going, freed, strict=True):
            if not size:
                print(f"keeps {run.name}: it was taken up meanwhile")
        print(f"freed {_size(sum(freed))}")


def _confirm(count: int, yes: bool) -> None:
    """Ask where somebody can answer. Raises ValueError where nobody can and nothing was said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ValueError("nothing was removed: nobody can be asked here, so say `--yes`")
    typer.confirm(f"Remove {count} run{'s' if count > 1 else ''}?", abort=True)


def _record(run: "Run") -> dict[str, Any]:
    return {
        "stage": run.stage,
        "fingerprint": run.fingerprint,
        "folder": str(run.path),
        "state": run.state,
        "done": run.done,
        "planned": run.planned,
        "metric": run.metric,
        "best": run.best,
        "bytes": run.bytes,
        "changed": run.changed,
        "needed_by": list(run.needed_by),
        "note": run.note,
    }


_NOTE = 240
_NARROW = 110
_WIDTHS = MappingProxyType({"done": 7, "best": 8, "size": 5, "changed": 7})
"""Of columns that may be folded in a narrow terminal."""
_HEADER = ("stage", "fingerprint", "state", "done", "best", "size", "changed", "needed by")


def _row(run: "Run") -> list[str]:
    unit = "seeds" if run.stage == "train" else "trials"
    done = "" if run.done is None else f"{run.done}/{run.planned} {unit}" if run.planned else f"{run.done} {unit}"
    best = "" if run.best is None else f"{run.metric} {run.best:.4g}"
    age = f"{_age(time.time() - run.changed)} ago"
    return [run.stage, run.fingerprint, run.state, done, best, _size(run.bytes), age, ", ".join(run.needed_by)]


def _show(rows: Sequence[Sequence[str]]) -> None:
    """Print a table; plain aligned text where there is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
        for row in (_HEADER, *rows):
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        return
    # Without lines between columns the names, which are to be copied, stay whole in 80 columns.
    narrow = console.width < _NARROW
    grid = Table(box=None, padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False)
    for name in _HEADER:
        grid.add_column(name, overflow="fold", max_width=_WIDTHS.get(name) if narrow else None)
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def _size(count: float) -> str:
    unit = 0
    while count >= 1024 and unit + 1 < len(_UNITS):
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit < 2 else f"{count:.1f} {_UNITS[unit]}"


def _age(seconds: float) -> str:
    for unit, length in _AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 s"
