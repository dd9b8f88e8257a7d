"""Looking results up in a table of trained architectures: a tabular benchmark, or results that were paid for already.

Ying et al. 2019, NAS-Bench-101, and Dong and Yang 2020, NAS-Bench-201: searches on a table cost nothing and can be repeated
hundreds of times, so strategies can be compared with error bars.
"""

import csv
import gzip
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, final

from annotated_types import MinLen
from pydantic import Field, PositiveInt, PrivateAttr

from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.trial import Proposal, Report, Trial

_GZIP = b"\x1f\x8b"
_EDGE = re.compile(r"([^|+~]+)~(\d+)")


@final
class Table(Evaluator):
    """Answers from a CSV file, gzipped or not: one row per architecture, a column per metric and fidelity."""

    path: Path
    """The CSV file; its first line names the columns."""
    architecture: str = "arch"
    """The column that holds the architecture: JSON, or the text of NAS-Bench-201 such as `|a~0|+|a~0|b~1|+|a~0|b~1|c~2|`."""
    metrics: Annotated[dict[str, str | dict[PositiveInt, str]], MinLen(1)] = Field({"accuracy": "accuracy"})
    """For each metric its column, or a column for each number of steps."""
    cost: str | None = None
    """The column with the seconds that a full training took; empty for none."""
    known: tuple[str, ...] = ()
    """Columns that are known without training, such as scores of zero-cost proxies."""

    _rows: dict[Architecture, dict[str, float]] = PrivateAttr(default_factory=dict)

    @property
    def provides(self) -> frozenset[str]:
        """Steps, when a metric has a column for more than one number of them."""
        return frozenset({"steps"} if len(self._fidelities()) > 1 else ())

    @property
    def fidelities(self) -> tuple[int, int | None]:
        """From the fewest steps in the table on; the row of the most stands for all that are more."""
        return min(self._fidelities(), default=0), None

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """The metrics of the table, whatever the task."""
        return tuple(self.metrics)

    def paths(self) -> list[str]:
        """The CSV file."""
        return [str(self.path)]

    def features(self, architecture: Mapping[str, str]) -> Mapping[str, float]:
        """What the columns in `known` hold. Raises ValueError when the table has no such architecture or column."""
        row = self._row(Architecture(architecture)) if self.known else {}  # a table with gaps can be searched, too
        return {name: row[name] for name in self.known}

    def identity(self, proposal: Proposal) -> str | None:
        """The architecture and the fidelity: another row is another training, even of the same function."""
        return f"{json.dumps(dict(sorted(proposal.architecture.items())))} {self._fidelity(proposal)}"

    def evaluate(self, trial: Trial) -> Report:
        """Return the row's metrics at the greatest fidelity of at most the proposed steps; the seconds are those of the table.

        Raises ValueError for a mixture, for an architecture or a column that the table does not have, and for fewer steps than it has.
        """
        if trial.proposal.mixture is not None:
            raise ValueError("a mixture was proposed, but 'table' knows single architectures: use an evaluator that shares weights")
        row, steps = self._row(trial.architecture), self._fidelity(trial.proposal)
        metrics = {name: row[column if isinstance(column, str) else column[steps]] for name, column in self.metrics.items()}
        share = steps / max(self._fidelities()) if steps else 1.0
        return Report(metrics, row[self.cost] * share if self.cost else 0.0)

    def _fidelities(self) -> set[int]:
        """The numbers of steps that every metric has a column for; empty when columns do not tell steps apart."""
        columns = [set(column) for column in self.metrics.values() if not isinstance(column, str)]
        return set.intersection(*columns) if columns else set()

    def _fidelity(self, proposal: Proposal) -> int:
        known = self._fidelities()
        if not known:
            return 0
        fitting = [steps for steps in known if proposal.steps is None or steps <= proposal.steps]
        if not fitting:
            raise ValueError(f"{proposal.steps} steps were proposed, but the table begins at {min(known)}: propose at least that many")
        return max(fitting)

    def _row(self, architecture: Architecture) -> dict[str, float]:
        if not self._rows:
            columns = [name for column in self.metrics.values() for name in ([column] if isinstance(column, str) else column.values())]
            self._rows = dict(read(self.path, self.architecture, [*columns, *self.known, *([self.cost] if self.cost else [])]))
        if architecture not in self._rows:
            raise ValueError(f"{self.path.name} has no row for {dict(architecture)}: search the space that the table was made from")
        return self._rows[architecture]


def read(path: Path, architecture: str, columns: list[str]) -> Iterator[tuple[Architecture, dict[str, float]]]:
    """Yield the architecture and the named columns of every row.

    Raises FileNotFoundError when there is no file, ValueError when a column is missing or a value is not a finite number.
    """
    rows = _open(path)
    for column in [architecture, *columns]:
        if column not in (rows.fieldnames or []):
            raise ValueError(f"{path.name} has no column {column!r}: it has {', '.join(rows.fieldnames or [])}")
    for number, row in enumerate(rows, 2):
        yield parse(row[architecture]), {column: _number(row[column], f"{path.name} line {number}, {column}") for column in columns}


def columns_of(path: Path) -> list[str]:
    """Return the names of a table's columns. Raises FileNotFoundError when there is no file."""
    return list(_open(path).fieldnames or [])


def _open(path: Path) -> "csv.DictReader[str]":
    data = path.read_bytes()
    return csv.DictReader(io.StringIO((gzip.decompress(data) if data.startswith(_GZIP) else data).decode()))


def parse(text: str) -> Architecture:
    """Read an architecture: a JSON object, or NAS-Bench-201's text, whose node i is the i-th group and `op~j` its edge from node j.

    Raises ValueError for anything else.
    """
    if text.startswith("{"):
        return Architecture(json.loads(text))
    groups = text.split("+")
    edges = {f"edge_{source}_{target}": operation for target, group in enumerate(groups, 1) for operation, source in _EDGE.findall(group)}
    if len(edges) != len(groups) * (len(groups) + 1) // 2:
        raise ValueError(f"{text!r} is not an architecture: write JSON, or |operation~node| groups joined by +")
    return Architecture(edges)


def _number(text: str | None, place: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place} is {text!r}: write a finite number")
    return value
