"""`nasflow verify`: does a result come out again?"""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.ending import errors, stoppable

if TYPE_CHECKING:  # `nasflow --help` need not wait for PyTorch
    from flows.verify import Verdict

UNVERIFIABLE = 2
"""The exit code where nothing can be said: the record is gone or damaged, or the trial shared its weights with others."""


def verify(
    what: Annotated[str, typer.Argument(help="`winner`, `export`, or the number of a trial of the last search.")] = "winner",
    seed: Annotated[int | None, typer.Option(help="Which seed of the winner to train again; by default the one that ships.")] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="How far figures may be apart, relative beyond 1; by default 0.01. An export has its own.")
    ] = None,
) -> None:
    """Make a result again from its record: bit-identical, equal within tolerance (exit code 0), or different, and why (1)."""
    with stoppable("nothing was changed"), errors():
        from flows import console
        from flows.records import RecordError
        from flows.verify import UnverifiableError

        try:
            verdict = _verdict(what, seed, tolerance)
        except (UnverifiableError, RecordError) as error:
            console.fail(f"nasflow: {error}")
            sys.exit(UNVERIFIABLE)
        rows = [*verdict.rows]
        if verdict.changed:
            rows.append(("changed since", "\n".join(verdict.changed)))
        if verdict.settings:
            rows.append(("params.yaml", "\n".join(["the settings of the record were used; params.yaml differs:", *verdict.settings])))
        console.table(verdict.title, rows)
        print(verdict.sentence(), flush=True)
    sys.exit(verdict.code)


def _verdict(what: str, seed: int | None, tolerance: float | None) -> "Verdict":
    root = Path.cwd()
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ValueError(f"--tolerance is {tolerance:g}: give a finite number of at least 0")
    if tolerance is not None and what == "export":
        raise ValueError("--tolerance is for figures of a training; a file is held to `export.tolerance` of its record: leave it out")
    if seed is not None and what != "winner":
        raise ValueError(f"--seed belongs to `nasflow verify winner`, not to {what!r}: leave it out")
    chosen = {} if tolerance is None else {"tolerance": tolerance}
    if what == "winner":
        from flows.verify_winner import winner

        return winner(root, seed, **chosen)
    if what == "export":
        from flows.verify_export import exported

        return exported(root)
    if what.isdecimal():
        from flows.verify_trial import trial

        return trial(root, int(what), **chosen)
    raise ValueError(f"{what!r} cannot be verified: give the number of a trial, `winner` or `export`")
