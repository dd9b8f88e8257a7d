"""The retrained winner, trained once more from the record beside its weights, in a folder of its own."""

import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import lineage, records, settings, verify
from flows.candidates import winner_of
from flows.settings import Train
from flows.stages import train as stage
from flows.tracking import WORK
from flows.verify import Verdict
from nas.components import restore
from nas.data.dataset import Dataset
from nas.process_start import pin_threads
from nas.training.retrain import Progress

WEIGHTS, CURVE = "model.safetensors", "curve.csv"
_READ = ("fit", "select", "confirm")
"""The splits that a training reads; the test data are opened by none of it."""


def winner(root: Path, seed: int | None = None, tolerance: float = verify.TOLERANCE) -> Verdict:
    """Train the winner from one seed again, by default the one that ships, and compare its weights byte for byte.

    Where the weights differ, or those of another seed are gone, the figures of the last epoch decide. Raises RecordError when
    `results/train` holds no record, ValueError when the winner was not trained from this seed.
    """
    pin_threads()
    results = root / "results" / "train"
    record = records.read(results / "lineage.json", "runs", "inputs", "environments", "deps")
    shipped = records.read(results / "architecture.json", "seed")["seed"]
    inputs, asked = record["inputs"], shipped if seed is None else seed
    if asked not in inputs["settings"]["seeds"]:
        known = ", ".join(map(str, inputs["settings"]["seeds"]))
        raise ValueError(f"the winner was not trained from seed {asked}: its seeds are {known}")
    dataset = Dataset.open(root / "results" / "prepare", splits=_READ)
    causes, others = _changes(root, record, dataset, [*([WEIGHTS] if asked == shipped else []), CURVE])  # before hours of training
    with tempfile.TemporaryDirectory(prefix="nasflow-verify-") as place:
        progress = _train(inputs, dataset, asked, Path(place))
        kept = results / WEIGHTS if asked == shipped else root / WORK / record["runs"][-1] / f"seed-{asked}.safetensors"
        equal, words = verify.weights(kept, Path(place) / f"seed-{asked}.safetensors") if kept.exists() else (None, "no longer there")
    before = _last_row(results / CURVE, asked)
    after = {name: value for name, value in progress.curve[-1].items() if name in before}
    answer = verify.judge(before, after, tolerance)
    if equal is not None:  # the same weights are the same result; a curve is only told of them
        answer = "bit-identical" if equal else "equal within tolerance" if answer == "bit-identical" else answer
    rows = [("weights", words), *verify.figures(before, after)]
    return Verdict(f"the winner, trained from seed {asked}", answer, rows, causes, others, tolerance)


def _changes(root: Path, record: Mapping[str, Any], dataset: Dataset, compared: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is not what it was, as causes and as settings; `compared`: the results that the new ones are compared with."""
    chosen, inputs = settings.read(root), record["inputs"]
    present = stage.inputs_of(chosen, dataset, _best(root, chosen.train.trial, inputs), lineage.read(root, "train"))
    causes, others = verify.changes(inputs, present)
    if inputs["data"] == present["data"]:  # or all files are others
        causes += verify.altered_data(root, record["deps"], _READ)
    causes += verify.altered_results(root, "train", compared)
    return causes + verify.environment_changes(record["environments"], present["device"]), others


def _train(inputs: Mapping[str, Any], dataset: Dataset, seed: int, folder: Path) -> Progress:
    """Train as the record says. The limits of the machine are the only ones."""
    chosen = verify.restored(Train, {**inputs["settings"], "seeds": [seed]})
    task = restore("tasks", inputs["task"]).bind(dataset.description)
    return stage.train_one(stage.jobs_of(chosen, task, inputs, dataset, folder)[0])


def _last_row(path: Path, seed: int) -> dict[str, float]:
    """The figures of the last epoch of a seed."""
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["seed"] == str(seed)]
        return {name: float(value) for name, value in rows[-1].items() if name != "seed" and value}
    except FileNotFoundError as error:
        raise records.MissingError(f"{records.shown(path)} is missing: {records.PULL}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise records.RecordError(f"{records.shown(path)} is not the table that the training wrote: {records.RESTORE}") from error


def _best(root: Path, trial: int | None, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What would be trained now, by the search and `train.trial`; what was trained, where the search does not offer it."""
    try:
        return winner_of(root, trial)
    except (FileNotFoundError, ValueError):
        return inputs
