"""Strategies with several objectives on a table of NAS-Bench-201: the hypervolume that each has found after so many evaluations.

    python benchmarks/several_objectives.py --table cifar10.csv.gz --objectives c10val_val_200,-lat_raspi4 --reference 80,-25 \\
        --strategies random,evolution,nsga2,local,predictor --evaluations 50,100,200 --runs 20

The volume is the share of what the front of the whole table dominates above the reference, which is given as greater is better (a
minus before what is to be small). All cells of one function but the first are no proposals of most strategies; others spend an
evaluation on them. Strategies see the cell's own features, none of the table's. The last line is a JSON list of {strategy, evaluations,
runs, mean, std, milliseconds_per_proposal}, the milliseconds as CPU time.
"""

import argparse
import json
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from nasbench201 import CHOICES, Timed, parse_strategy

from nas.components import restore
from nas.evaluators.table import Table, read
from nas.front_measures import hypervolume, hypervolume_curve
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.spaces.cell import Cell, canonical_form


@dataclass(frozen=True)
class Question:
    """What to measure."""

    table: Path
    objectives: tuple[str, ...]
    reference: tuple[float, ...]
    evaluations: tuple[int, ...]


@cache
def whole(question: Question) -> float:
    """The hypervolume of the whole table."""
    columns = [name.removeprefix("-") for name in question.objectives]
    signs = [-1 if name.startswith("-") else 1 for name in question.objectives]
    rows = dict(read(question.table, "arch", columns)).values()
    points = {tuple(sign * row[name] for sign, name in zip(signs, columns, strict=True)) for row in rows}
    front = [point for point in points if not any(other != point and all(map(float.__ge__, other, point)) for other in points)]
    return hypervolume(front, question.reference)


@cache
def evaluator_of(question: Question) -> Table:
    """The table as an evaluator of the objectives (read once per process)."""
    columns = [name.removeprefix("-") for name in question.objectives]
    return Table(path=question.table, architecture="arch", metrics={name: name for name in columns})


def run(question: Question, text: str, seed: int) -> list[tuple[float, float]]:
    """Search once; returns for every number of evaluations the hypervolume and the mean CPU milliseconds of a proposal so far."""
    space, timed = Cell(), Timed()
    strategy = restore("strategies", parse_strategy(text))
    timed._inner = strategy.bind(CHOICES, cache(space.features), lambda made: canonical_form(tuple(made.values())))
    objective = Objective(metrics=question.objectives)
    found = list(search(timed, evaluator_of(question), objective, MemoryJournal(), trials=max(question.evaluations), seed=seed))
    curve, seconds = hypervolume_curve(found, question.reference), timed._seconds
    return [(curve[min(count, len(curve)) - 1], 1000 * statistics.mean(seconds[:count])) for count in question.evaluations]


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--objectives", default="c10val_val_200,-lat_raspi4")
    parser.add_argument("--reference", default="80,-25")
    parser.add_argument("--strategies", default="random,evolution,nsga2,local,predictor")
    parser.add_argument("--evaluations", default="50,100,200")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    try:
        reference = tuple(float(number) for number in chosen.reference.split(","))
        evaluations = tuple(sorted(int(number) for number in chosen.evaluations.split(",")))
        question = Question(chosen.table, tuple(chosen.objectives.split(",")), reference, evaluations)
        most = whole(question)
    except (ValueError, OSError, LookupError) as error:
        sys.exit(f"several_objectives: {error}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # read when a process imports NumPy
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        for text in chosen.strategies.split(","):
            results = list(pool.map(partial(run, question, text), range(chosen.runs)))
            for position, count in enumerate(evaluations):
                shares = [result[position][0] / most for result in results]
                milliseconds = statistics.mean(result[position][1] for result in results)
                spread = statistics.stdev(shares) if len(shares) > 1 else 0.0
                row = {"strategy": text, "evaluations": count, "runs": chosen.runs, "mean": round(statistics.mean(shares), 4)}
                rows.append(row | {"std": round(spread, 4), "milliseconds_per_proposal": round(milliseconds, 3)})
                print(f"{text:20} {count:5} {row['mean']:8.4f} ± {spread / len(shares) ** 0.5:.4f} {milliseconds:8.2f} ms", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
