"""The stages as they are typed."""

from enum import StrEnum

import typer

METAVAR = "STAGE"


class Stage(StrEnum):
    """The stages, in order."""

    PREPARE = "prepare"
    SEARCH = "search"
    TRAIN = "train"
    EXPORT = "export"
    REPORT = "report"


def named(text: str) -> Stage:
    """The stage of this name. Raises BadParameter, with the nearest name, when there is none."""
    from nas.components import near

    try:
        return Stage(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no stage: {near(text, [stage.value for stage in Stage])}") from error
