"""The retrained winner, trained once more from the record beside its weights, in a folder of its own."""

import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import lineage, settings, verify
from flows.candidates import winner_of
from flows.settings import Train
from flows.stages import train as stage
from flows.tracking import WORK
from flows.verify import UnverifiableError, Verdict
from nas.components import restore
from nas.data.dataset import SPLITS, Dataset
from nas.process_start import pin_threads
from nas.training.retrain import Progress


def winner(root: Path, seed: int | None = None, tolerance: float = verify.TOLERANCE) -> Verdict:
    """Train the winner from one seed again, by default the one that ships, and compare its weights byte for byte.

    Where the weights differ, or those of another seed are gone, the figures of the last epoch decide. Raises UnverifiableError when
    `results/train` holds no record, ValueError when the winner was not trained from this seed.
    """
    pin_threads()
    results = root / "results" / "train"
    record, shipped = _record(results), json.loads((results / "architecture.json").read_text())["seed"]
    inputs, asked = record["inputs"], shipped if seed is None else seed
    if asked not in inputs["settings"]["seeds"]:
        known = ", ".join(map(str, inputs["settings"]["seeds"]))
        raise ValueError(f"the winner was not trained from seed {asked}: its seeds are {known}")
    dataset = Dataset.open(root / "results" / "prepare", splits=SPLITS)
    with tempfile.TemporaryDirectory(prefix="nasflow-verify-") as place:
        progress = _train(inputs, dataset, asked, Path(place))
        kept = results / "model.safetensors" if asked == shipped else root / WORK / record["runs"][-1] / f"seed-{asked}.safetensors"
        equal, words = verify.weights(kept, Path(place) / f"seed-{asked}.safetensors") if kept.exists() else (None, "no longer there")
    before = _last_row(results / "curve.csv", asked)
    after = {name: value for name, value in progress.curve[-1].items() if name in before}
    answer = verify.judge(before, after, tolerance)
    if equal is not None:  # the same weights are the same result; a curve is only told of them
        answer = "bit-identical" if equal else "equal within tolerance" if answer == "bit-identical" else answer
    chosen = settings.read(root)
    present = stage.inputs_of(chosen, dataset, _best(root, chosen.train.trial, inputs), lineage.read(root, "train"))
    causes, others = verify.changes(inputs, present)
    causes += verify.environment_changes(record["environments"], present["device"])
    rows = [("weights", words), *verify.figures(before, after)]
    return Verdict(f"the winner, trained from seed {asked}", answer, rows, causes, others, tolerance)


def _record(results: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((results / "lineage.json").read_text())
    except FileNotFoundError as error:
        raise UnverifiableError(f"{results} holds no winner to verify: `nasflow run train` makes one") from error
    if not {"runs", "inputs", "environments"} <= record.keys():
        raise UnverifiableError(f"{results / 'lineage.json'} does not say how the winner was trained: `nasflow stage train` notes it")
    return record


def _train(inputs: Mapping[str, Any], dataset: Dataset, seed: int, folder: Path) -> Progress:
    """Train as the record says. The limits of the machine are the only ones."""
    chosen = verify.restored(Train, {**inputs["settings"], "seeds": [seed]})
    task = restore("tasks", inputs["task"]).bind(dataset.description)
    return stage.train_one(stage.jobs_of(chosen, task, inputs, dataset, folder)[0])


def _last_row(path: Path, seed: int) -> dict[str, float]:
    """The figures of the last epoch of a seed."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["seed"] == str(seed)]
    return {name: float(value) for name, value in rows[-1].items() if name != "seed" and value}


def _best(root: Path, trial: int | None, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What would be trained now, by the search and `train.trial`; what was trained, where the search does not offer it."""
    try:
        return winner_of(root, trial)
    except (FileNotFoundError, ValueError):
        return inputs
