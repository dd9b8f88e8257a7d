"""A record's fields become a command's options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from flows.commands import options


@dataclass(frozen=True)
class Trip:
    where: Annotated[Path, typer.Argument(help="The goal.")]
    days: Annotated[int, typer.Option(min=1, help="How long.")] = 3


def test_options_arrive_as_a_record() -> None:
    trips: list[Trip] = []

    def travel(trip: Trip) -> None:
        """Go somewhere."""
        trips.append(trip)

    app, runner = typer.Typer(), CliRunner()
    app.command()(options.command(Trip, travel))
    assert runner.invoke(app, ["home"]).exit_code == 0
    assert runner.invoke(app, ["away", "--days", "5"]).exit_code == 0
    assert trips == [Trip(Path("home")), Trip(Path("away"), 5)]
    assert runner.invoke(app, []).exit_code == 2
    assert runner.invoke(app, ["away", "--days", "0"]).exit_code == 2
    told = runner.invoke(app, ["--help"]).stdout
    assert all(text in told for text in ("Go somewhere.", "The goal.", "How long.", "--days"))
