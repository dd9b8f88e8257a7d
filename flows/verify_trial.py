"""A trial of the last search, evaluated once more from its record in a folder of its own."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows import lineage, records, search_start, settings, verify
from flows.run_folder import environments
from flows.searches import Search
from flows.stages import search as stage
from flows.tracking import WORK
from flows.verify import UnverifiableError, Verdict
from nas import journal
from nas.components import restore
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench
from nas.file_metrics import added
from nas.process_start import pin_threads
from nas.tasks.base import Task
from nas.trial import Report, Trial
from nas.workers import Workers

_READ = ("fit", "select", "confirm")
"""The splits that an evaluation may read."""


def trial(root: Path, number: int, tolerance: float = verify.TOLERANCE) -> Verdict:
    """Evaluate a trial of the search that `results/search` shows again, and compare metrics and weights with its record.

    Space, task, evaluator and seed are those of the record, whatever params.yaml says now. Raises UnverifiableError when the trial cannot
    be evaluated alone or its record is gone, ValueError when there is no such trial.
    """
    pin_threads()
    folder = _run(root)
    inputs = records.read(folder / "inputs.json", "settings", "task", "data")
    entry = verify.restored(Search, inputs["settings"][-1])
    known = {trial.number: trial for trial in journal.read(folder, f"move {records.shown(folder)} aside and run `nasflow stage search`")}
    if number not in known:
        there = (
            f"its trials are 0 to {max(known)}" if known else "none of its trials has ended yet, so continue it with `nasflow stage search`"
        )
        raise ValueError(f"the search has no trial {number}: {there}")
    if entry.evaluator.commit_every > 1:
        raise UnverifiableError(_together(folder.name, number))
    asked, twin = known[number], _owner(known, number)
    line = _ancestors(known, twin.number)
    causes, others = _changes(root, inputs)
    again, compared = _evaluate(root, folder, entry, inputs, [known[one] for one in line])
    own, left_out = _own(twin.report or Report(), restore("tasks", inputs["task"]))
    answer, rows = _compare(replace(twin, report=own), again, tolerance)
    if left_out:
        rows.append(("not measured again", f"{', '.join(left_out)}: they are of the file, on the machine of the search"))
    equal, words = compared
    if words:
        rows.append(("weights", words))
    answer = "equal within tolerance" if answer == "bit-identical" and not equal else answer
    if asked is not twin:
        rows.insert(0, ("evaluated as", f"trial {twin.number}, whose result trial {number} took over: both build the same function"))
    worked_in = verify.worked_in(environments(folder), line, entry.workers)
    causes += verify.environment_changes(worked_in, stage.device_of(entry))
    return Verdict(f"trial {number} of {folder.name}", answer, rows, causes, others, tolerance)


def _run(root: Path) -> Path:
    """The folder of the run that the results of the search came from."""
    best = root / "results" / "search" / "best.json"
    folder = root / WORK / f"search-{records.read(best, 'search')['search']}"
    if not (folder / "inputs.json").exists() or not (folder / "journal.jsonl").exists():
        gone = f"{records.shown(folder)} is gone, and with it the record of the trials"
        raise UnverifiableError(f"{gone}: `nasflow stage search` makes it again")
    return folder


def _together(name: str, number: int) -> str:
    return (
        f"trial {number} was judged with weights that all trials of its search share, so it cannot be evaluated alone. To verify the "
        f"whole search, keep a copy of results/search, move {WORK}/{name} aside and run `nasflow stage search`: every file but "
        "lineage.json must come out equal"
    )


def _owner(known: Mapping[int, Trial], number: int) -> Trial:
    """The trial that was really evaluated, where this one took over its result."""
    report = known[number].report
    return known[number] if report is None or report.reused is None else known[report.reused]


def _ancestors(known: Mapping[int, Trial], number: int) -> list[int]:
    """The trials whose weights a trial went on with, the first one first, and the trial itself."""
    found = [number]
    while (parent := known[found[0]].proposal.parent) is not None:
        found.insert(0, parent)
    return found


def _evaluate(root: Path, run: Path, entry: Search, inputs: Mapping[str, Any], line: list[Trial]) -> tuple[Report, tuple[bool, str]]:
    """Evaluate a line of trials, each of which goes on with the weights before; the last report, and how its weights compare."""
    dataset = Dataset.open(root / "results" / "prepare", splits=_READ)
    task = restore("tasks", inputs["task"]).bind(dataset.description)
    last = line[-1]
    with tempfile.TemporaryDirectory(prefix="nasflow-verify-") as place:
        evaluator = entry.evaluator.bind(Bench(entry.space, task, dataset, Path(place), entry.seed))
        if last.rejected:
            return Report(evaluator.inspect(last.proposal), error=last.report.error if last.report else None), (True, "")
        devices = [entry.devices[last.number % len(entry.devices)]] if entry.devices else []
        with Workers.around(evaluator, 1, devices) as workers:  # a candidate that ends its process must not end this one
            reports = [workers.submit(Trial(trial.number, trial.proposal)).result() for trial in line]
        name = Path("weights") / f"trial-{last.number}.pt"
        before, after = run / name, Path(place) / name
        if not after.exists():
            return reports[-1], (True, "")
        return reports[-1], verify.weights(before, after) if before.exists() else (True, "not kept by the search, so not compared")


def _own(report: Report, task: Task) -> tuple[Report, list[str]]:
    """The report with what the evaluator itself found, and the names of what was measured of the file."""
    files = {f"{name}{end}" for name in added(task.metric_names) for end in ("", "_low", "_high")}
    kept = {name: value for name, value in report.metrics.items() if name not in files}
    return replace(report, metrics=kept), [name for name in report.metrics if name not in kept]


def _compare(recorded: Trial, again: Report, tolerance: float) -> tuple[verify.Answer, list[tuple[str, str]]]:
    before = recorded.report or Report()
    if before.error is None and again.kind == "time":
        raise UnverifiableError(f"trial {recorded.number} passed its limit this time ({again.error}): verify it on an idle machine")
    if before.kind == "time" and again.kind != "time":
        raise UnverifiableError(
            f"trial {recorded.number} had passed its limit ({before.error}) and did not this time, so there is nothing to compare: "
            "wall time is no part of the record, and this machine is faster or less busy now"
        )
    if before.kind == "export":
        raise UnverifiableError(f"trial {recorded.number} was not trained, since its file could not be made ({before.error})")
    if before.error is None and again.error is None:
        rows = verify.figures(before.metrics, again.metrics)
        return verify.judge(before.metrics, again.metrics, tolerance), rows
    rows = [("recorded", before.error or "evaluated"), ("now", again.error or "evaluated")]
    if before.error == again.error:
        return verify.judge(before.metrics, again.metrics, tolerance), rows
    same = before.error is not None and again.error is not None and before.kind is not None and before.kind == again.kind
    return "equal within tolerance" if same else "differs", rows


def _changes(root: Path, recorded: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What is not what it was, as causes and as settings."""
    present = _present(root, recorded)
    causes, others = verify.changes(recorded, present)
    if recorded["data"] == present["data"]:  # or all files are others
        causes += verify.altered_data(root, records.read(root / "results" / "search" / "lineage.json", "deps")["deps"], _READ)
    return causes, others


def _present(root: Path, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What the search would be determined by now, as far as that can be told."""
    chosen = settings.read(root)
    dataset = Dataset.open(root / "results" / "prepare", splits=())
    present = stage.inputs_of(root, chosen, len(recorded["settings"]), dataset, lineage.read(root, "search"))
    return present | {"files": search_start.files(root, recorded.get("files", {}))}
