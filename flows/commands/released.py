"""`nasflow promote` and `nasflow released`: whether an exported model takes the place of the one in use, and what is in use."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.ending import errors, stoppable

if TYPE_CHECKING:  # `nasflow --help` need not wait for what reads results
    from flows.released import Decision


def promote(
    anyway: Annotated[bool, typer.Option("--anyway", help="Release it without a comparison.")] = False,
) -> None:
    """Release the exported model where it is better than the released one, beyond noise, on the confirm data; else only keep it."""
    with stoppable("the released model is the one before or the new one"), errors():
        from flows import promotion, tracking

        with tracking.editing(Path.cwd()):
            print(f"nasflow: {promotion.promote(Path.cwd(), anyway).sentence}", flush=True)


def released(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Print which model is released and why, and which were not, newest first."""
    with errors():
        from flows import console, released

        root = Path.cwd()
        used = released.current(root)
        if used is None:
            raise ValueError("nothing is released yet: `nasflow promote` releases what was exported")
        decision, others = released.decision_of(used), released.candidates(root)
        if as_json:
            print(json.dumps({"released": asdict(decision), "others": [asdict(other) for other in others]}, indent=2))
            return
        rows = [("model", decision.sha256), ("since", decision.when), ("why", decision.reason)]
        rows += [(name, value) for name, value in decision.origin.items()]
        console.table("Released", [*rows, ("file", str(root / released.FOLDER / released.CURRENT / "model.onnx"))])
        if others:
            console.columns(("model", "decided", "released", "why"), [_row(other) for other in others])


def _row(decision: "Decision") -> tuple[str, str, str, str]:
    return decision.sha256[:16], decision.when, "once" if decision.promoted else "never", decision.reason
