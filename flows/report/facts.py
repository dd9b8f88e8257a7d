"""Everything the report says is read here, from the results of the other stages and nothing else."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from flows import records
from flows.candidates import FILE as CANDIDATES
from flows.report.effects import Effects, main_effects
from nas.ancestry import named
from nas.training.comparison import Comparison, Measured, compare

STAGES = ("prepare", "search", "train", "export")


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One trial of trials.csv. `comparable`: its score can be compared with the others' and it is `done`. `made_from`: whose weights
    it continues, then what its architecture was made from, by number."""

    number: int
    status: str
    steps: str
    metrics: Mapping[str, float]
    reused: int | None
    kind: str
    error: str
    architecture: Mapping[str, str]
    comparable: bool
    random: bool
    made_from: tuple[int, ...]


@final
@dataclass(frozen=True)
class Facts:
    """The results of all stages; JSON files as they are."""

    best: Mapping[str, Any]
    shipped: Mapping[str, Any]
    details: Mapping[str, Any]
    manifest: Mapping[str, Any]
    dataset: Mapping[str, Any]
    telemetry: Mapping[str, Any]
    lineages: Mapping[str, Mapping[str, Any]]
    trials: Sequence[Row]
    history: Sequence[Mapping[str, str]]
    curve: Sequence[Mapping[str, str]]
    confusion: Sequence[tuple[str, str]]
    model: Path

    @property
    def metric(self) -> str:
        """The metric that the winner is judged by."""
        return str(self.best["metric"])

    @cached_property
    def measure(self) -> str:
        """The metric that trials are compared by: that of the winner, or the first objective where trials do not know it."""
        known = any(self.metric in row.metrics for row in self.trials)
        return self.metric if known else str(self.best["objective"]["metrics"][0]).removeprefix("-")

    @property
    def sign(self) -> int:
        """1 where more of the measure is better, -1 where less is."""
        return -1 if f"-{self.measure}" in self.best["objective"]["metrics"] else 1

    @property
    def search(self) -> Mapping[str, Any]:
        """The settings of the search, with everything that was left to its default."""
        settings: Sequence[Mapping[str, Any]] = self.lineages["search"]["inputs"]["settings"]
        return settings[-1]

    @cached_property
    def scored(self) -> list[Row]:
        """The trials whose measure can be compared, in the order of their numbers."""
        return [row for row in self.trials if row.comparable and self.measure in row.metrics]

    @cached_property
    def functions(self) -> list[Row]:
        """The scored trials without those that took over the result of another."""
        return [row for row in self.scored if row.reused is None]

    @cached_property
    def effects(self) -> Effects | None:
        """The effects of all options on the measure, greater for better; None where nothing can be said."""
        values = [self.sign * row.metrics[self.measure] for row in self.functions]
        return main_effects([row.architecture for row in self.functions], values)

    def better_by(self, first: float, second: float) -> Comparison:
        """How much better the second of two values on `select` is, and the noise: none is known of what is no share of examples."""
        measured = [Measured((value,), int(self.dataset["counts"]["select"])) for value in (first, second)]
        found = compare(measured[0], measured[1], share=self.measure in self.telemetry["shares"])
        return Comparison(self.sign * found.difference, found.noise)

    @property
    def noisy(self) -> bool:
        """Whether the noise of the measure is known."""
        return self.measure in self.telemetry["shares"]


def read(results: Path) -> Facts:
    """Read the results of all stages.

    Raises RecordError when a stage has not been run or its record is damaged, ValueError when a table is not of the form that its stage
    writes.
    """
    search, train, export = results / "search", results / "train", results / "export"
    best, trained = records.read(search / "best.json"), records.read(train / "architecture.json")
    offered = records.read_list(search / CANDIDATES, "trial")
    shipped = next((candidate for candidate in offered if candidate["trial"] == trained["trial"]), best)
    telemetry, history = records.read(search / "telemetry.json"), _rows(search / "history.csv")
    comparable = {int(row["trial"]) for row in history}
    return Facts(
        best=best,
        shipped=shipped,
        details=records.read(train / "details.json"),
        manifest=records.read(export / "manifest.json"),
        dataset=records.read(results / "prepare" / "dataset.json"),
        telemetry=telemetry,
        lineages={stage: records.read(results / stage / "lineage.json") for stage in STAGES},
        trials=list(_trials(search / "trials.csv", comparable, set(telemetry["random"]))),
        history=history,
        curve=_rows(train / "curve.csv"),
        confusion=[(row["actual"], row["predicted"]) for row in _rows(train / "confusion.csv")],
        model=export / "model.onnx",
    )


def _trials(path: Path, comparable: set[int], random: set[int]) -> Iterator[Row]:
    """The rows of trials.csv by the places of their columns: a choice may have the name of another column."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    parent, measured, told = header.index("parent"), header.index("score") + 1, header.index("reused")
    names, choices = header[measured:told], header[told + 3 :]
    for row in rows:
        number = int(row[0])
        reused, kind, error = row[told : told + 3]
        yield Row(
            number=number,
            status=row[1],
            steps=row[2],
            metrics={name: float(text) for name, text in zip(names, row[measured:told], strict=True) if text},
            reused=int(reused) if reused else None,
            kind=kind,
            error=error,
            architecture=dict(zip(choices, row[told + 3 :], strict=True)),
            comparable=number in comparable,
            random=number in random,
            made_from=named(int(row[parent]) if row[parent] else None, map(int, row[parent + 1].split())),
        )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
