"""`nasflow rank`: the candidates of the search, timed on other devices and ranked by that, without another search."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.ending import errors, stoppable

if TYPE_CHECKING:  # `nasflow --help` need not wait for what reads results
    from flows.ranking import Ranking


def rank(
    files: Annotated[list[Path], typer.Argument(help="The zip file to write, or what benchmark.py wrote on one device or several.")],
    pack: Annotated[bool | None, typer.Option("--pack/--measured", help="Pack the candidates, or rank them by what was measured.")] = None,
    setting: Annotated[
        tuple[int, int] | None, typer.Option(metavar="BATCH THREADS", help="Whose times count; by default those of params.yaml's target.")
    ] = None,
    without: Annotated[list[int] | None, typer.Option(metavar="TRIAL", help="Leave a trial out, since it may not ship, say.")] = None,
    choose: Annotated[bool, typer.Option("--choose", help="Write the winner to params.yaml, for the next `nasflow run`.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Pack the candidates of the search for another device, or rank them by what devices measured; nothing is searched again."""
    with stoppable("nothing was changed"), errors():
        if pack is None:
            raise ValueError("say `--pack candidates.zip`, to time the candidates on a device, or `--measured device.json`, to rank them")
        if pack:
            _pack(files, setting is not None or bool(without) or choose or as_json)
            return
        found = _ranked(files, setting, without or [])
        if as_json:
            _print(found)
        else:
            _show(found)
        if found.winner is None:
            raise ValueError("no candidate meets the constraints on every device: loosen search.objective.constraints, or search on")
        if choose:
            _choose(found)


def _pack(files: Sequence[Path], others: bool) -> None:
    from flows import packing, settings

    if len(files) != 1 or others:
        raise ValueError("--pack takes the name of one zip file, and no other option goes with it: leave the rest out")
    count = packing.pack(Path.cwd(), settings.read(Path.cwd()), files[0])
    print(f"{files[0]} holds {count} candidates: unpack it on the device, run `python benchmark.py` there, and bring device.json back")


def _ranked(files: Sequence[Path], setting: tuple[int, int] | None, without: Sequence[int]) -> "Ranking":
    from flows import ranking, settings
    from flows.devices import Setting

    if setting is not None and min(setting) < 1:
        raise ValueError(f"--setting is {setting[0]} {setting[1]}: batch size and threads are at least 1")
    target = settings.read(Path.cwd()).target
    asked = None if setting is None else Setting(*setting)
    return ranking.rank(Path.cwd(), files, asked, Setting(target.batch_size, target.threads), without)


def _print(found: "Ranking") -> None:
    from flows import ranking

    print(json.dumps(ranking.record(found), indent=2))


def _show(found: "Ranking") -> None:
    from flows import console, ranking

    console.columns(ranking.header(found), ranking.rows(found))
    for note in ranking.notes(found):
        print(note)
    if found.winner is not None:
        print(
            f"winner on the device{'s' if len(found.devices) > 1 else ''}: trial {found.winner.trial}, number {found.winner.before} before"
        )


def _choose(found: "Ranking") -> None:
    """Let the next run train the winner and judge its latency by the devices."""
    from flows import settings, tracking

    assert found.winner is not None
    trial, root = found.winner.trial, Path.cwd()
    overrides = [f"train.trial={trial}", f"export.measured={json.dumps(found.elsewhere(trial).model_dump())}"]
    settings.read(root, overrides, tracking.editing(root))
    print(f"params.yaml now has trial {trial}: `nasflow run` trains and ships it, and no search runs again", file=sys.stderr)
