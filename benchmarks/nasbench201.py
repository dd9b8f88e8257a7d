"""Strategies on a table of NAS-Bench-201: what each has found after so many evaluations, over many runs.

    python benchmarks/nasbench201.py --table cifar10.csv.gz --signal c10val_val_12 --report c10_test_200 \\
        --strategies random,evolution,reinforce:policy=independent --evaluations 50,100,180 --runs 100

A search sees the signal only; what is reported is the other column of the architecture with the best signal so far. Duplicates
count as evaluations. A strategy's settings follow its name after colons. Strategies that need fidelity (halving, hyperband) get the
column of the signal with another number at its end as the cheap one, and are charged for steps in shares of a full training.
The table's zero-cost columns and sizes, and the space's own features, are given to every strategy; --features none gives nothing.
The last line is a JSON list of {strategy, evaluations, runs, mean, std, milliseconds_per_proposal}; the milliseconds are CPU time of
asking and telling over the whole search so far, per proposal.
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PrivateAttr

from nas.architecture import Architecture, Choice, Choices
from nas.components import restore
from nas.evaluators.table import Table, columns_of, read
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import mismatch, search
from nas.spaces.cell import EDGES, OPERATIONS, Cell, canonical_form
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Trial

CHOICES = Choices([Choice(f"edge_{source}_{target}", OPERATIONS) for source, target in EDGES])


@dataclass(frozen=True)
class Question:
    """What to measure."""

    table: Path
    signal: str
    report: str
    evaluations: tuple[int, ...]
    features: bool


class Timed(Strategy):
    """Passes everything on to another strategy and notes the CPU time that it takes."""

    _inner: Strategy = PrivateAttr()
    _seconds: list[float] = PrivateAttr(default_factory=list)

    @property
    def requires(self) -> frozenset[str]:
        """What the other strategy requires."""
        return self._inner.requires

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Ask the other strategy."""
        start = time.process_time()
        proposal = self._inner.ask(history, rng)
        self._seconds.append(time.process_time() - start)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Tell the other strategy."""
        start = time.process_time()
        self._inner.tell(trial)
        self._seconds[-1] += time.process_time() - start


def parse_strategy(text: str) -> dict[str, Any]:
    """Read `name:key=value:…` as settings of a strategy."""
    name, *settings = text.split(":")
    pairs = (setting.split("=", 1) for setting in settings)
    return {"name": name, **{key: _value(value) for key, value in pairs}}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


@lru_cache(maxsize=4)
def table_of(question: Question) -> tuple[Table, dict[Architecture, dict[str, float]], Any]:
    """The evaluator, the reported column, and the features of every architecture (computed once per process)."""
    header = columns_of(question.table)
    known = tuple(name for name in header if re.search(r"_zc_|_params|_flops", name)) if question.features else ()
    stem = re.sub(r"\d+$", "", question.signal)
    steps = {int(name[len(stem) :]): name for name in header if re.fullmatch(re.escape(stem) + r"\d+", name)}
    cheaper = {number: name for number, name in steps.items() if name == question.signal or number < _number_at_end(question.signal)}
    metrics = {"signal": cheaper if len(cheaper) > 1 else question.signal}
    table = Table(path=question.table, architecture="arch", metrics=metrics, known=known)
    reported = dict(read(question.table, "arch", [question.report]))

    space = Cell()

    @cache
    def features(architecture: Architecture) -> tuple[float, ...]:
        return (*space.features(architecture), *table.features(architecture).values())

    return table, reported, features if question.features else None


def run(question: Question, settings: dict[str, Any], seed: int) -> list[tuple[float, float]]:
    """Search once; returns for every number of evaluations the reported value of the incumbent and the seconds of proposing."""
    table, reported, features = table_of(question)
    strategy = restore("strategies", settings)
    strategy.bind(CHOICES, features, lambda architecture: canonical_form(tuple(architecture.values())))
    timed, full = Timed(), max(table._fidelities(), default=0)
    timed._inner = strategy
    found: list[tuple[float, float]] = []
    best, spent, proposals = -np.inf, 0.0, 0
    incumbent: Architecture | None = None
    for trial in search(timed, table, Objective(metrics=("signal",)), MemoryJournal(), trials=10**6, seed=seed):
        steps = trial.proposal.steps
        share = steps / full if steps is not None and full else 1.0
        spent, proposals = spent + share, proposals + 1
        while len(found) < len(question.evaluations) and spent > question.evaluations[len(found)] + 1e-9:
            found.append(_figures(reported, question, incumbent, timed, proposals - 1))
        if len(found) == len(question.evaluations):
            return found
        if trial.score is not None and share == 1.0 and trial.score.values[0] > best:
            best, incumbent = trial.score.values[0], trial.architecture
    return found + [_figures(reported, question, incumbent, timed, proposals)] * (len(question.evaluations) - len(found))


def _figures(
    reported: dict[Architecture, dict[str, float]], question: Question, incumbent: Architecture | None, timed: Timed, proposals: int
) -> tuple[float, float]:
    if incumbent is None:
        return float("nan"), 0.0
    return reported[incumbent][question.report], 1000 * sum(timed._seconds[:proposals]) / max(1, proposals)


def _job(arguments: tuple[Question, dict[str, Any], int]) -> list[tuple[float, float]]:
    return run(*arguments)


def _number_at_end(text: str) -> int:
    match = re.search(r"\d+$", text)
    return int(match[0]) if match else 0


def measure(question: Question, texts: Sequence[str], seeds: range, processes: int) -> list[dict[str, Any]]:
    """All strategies, one after the other, their runs side by side in processes of one thread each; every strategy has the same seeds."""
    runs = len(seeds)
    rows = []
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # read when a process imports NumPy, which its first import of this file does
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for text in texts:
            settings = parse_strategy(text)
            results = list(pool.map(_job, [(question, settings, seed) for seed in seeds], chunksize=max(1, runs // (4 * processes))))
            for position, evaluations in enumerate(question.evaluations):
                values = [result[position][0] for result in results]
                milliseconds = statistics.mean(result[position][1] for result in results)
                row = {"strategy": text, "evaluations": evaluations, "runs": runs, "mean": round(statistics.mean(values), 4)}
                row |= {"std": round(statistics.stdev(values), 4) if runs > 1 else 0.0, "milliseconds_per_proposal": round(milliseconds, 4)}
                rows.append(row)
                error = row["std"] / runs**0.5
                print(f"{text:40} {evaluations:5}  {row['mean']:8.3f} ± {error:.3f}  {milliseconds:7.3f} ms", flush=True)
    return rows


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--signal", required=True, help="column that the search sees")
    parser.add_argument("--report", required=True, help="column that is reported of the best by signal")
    parser.add_argument("--strategies", default="random,evolution", help="comma-separated, each name[:setting=value…]")
    parser.add_argument("--evaluations", default="50,100,180")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0, help="of the runs, so that settings chosen by some can be tried on others")
    parser.add_argument("--features", choices=["all", "none"], default="all")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    try:
        evaluations = tuple(sorted(int(number) for number in chosen.evaluations.split(",")))
        question = Question(chosen.table, chosen.signal, chosen.report, evaluations, chosen.features == "all")
        table_of(question)[0].evaluate(Trial(0, Proposal(next(iter(table_of(question)[1])))))
        for text in chosen.strategies.split(","):
            if wrong := mismatch(restore("strategies", parse_strategy(text)), table_of(question)[0]):
                raise ValueError(wrong)
    except (ValueError, OSError) as error:
        sys.exit(f"nasbench201: {error}")
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.runs)
    print(json.dumps(measure(question, chosen.strategies.split(","), seeds, chosen.processes)))


if __name__ == "__main__":
    main()
