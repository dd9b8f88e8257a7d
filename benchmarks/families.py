"""Families of search methods side by side on real images: what each finds in equal CPU seconds, trained again from scratch.

    python -m benchmarks.families --archive ../shared/data/fashion_mnist/fashion_mnist.npz --limit 10000 --log families.jsonl

The space is `cell`, small. A family that trains its candidates takes trials until its CPU seconds are used; one that shares weights
first measures a few of its steps and a look, which it is charged for, and plans a schedule that fits into what is left. Each names its
best three by `select`, and `confirm` chooses among them. The winners and random architectures are then trained from their
first weights with one recipe, on all images but the test set, and tested once. Every finished piece is a line of the file that
--log names: the same command goes on from there. The last line printed is JSON: for each family the mean test accuracy of its winners,
how far that is from the mean of the random architectures, and the standard error of this difference.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.pieces import Budget, Log, table
from flows import search_start
from flows.searches import Search
from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.data.prepare import prepare
from nas.data.sources.npz import Npz
from nas.data.splits import Splits
from nas.evaluators.base import Bench
from nas.finalists import finalists
from nas.journal import MemoryJournal
from nas.process_start import pin_threads
from nas.search import search
from nas.spaces.cell import Cell
from nas.strategies.base import Strategy
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Limits
from nas.training.loop import Training, load_examples, outputs_of
from nas.training.recipe import Recipe
from nas.trial import Trial

FINALISTS, WARM_UP, MEASURED = 3, 2, 6
RECIPE = {"learning_rate": 0.05, "weight_decay": 5e-4, "batch_size": 32}
SHARING = {"learning_rate": 0.05, "weight_decay": 3e-4, "batch_size": 32, "gradient_clip": 5.0}
SCRATCH = {"name": "scratch", "recipe": RECIPE, "device": "cpu"}
SHARED = {"name": "shared", "last_looks": 6, "recipe": SHARING, "device": "cpu"}
LOOKING = {**SHARED, "steps": 0}
EVOLUTION = {"name": "evolution", "population": 12, "tournament": 4}


class Phase(NamedTuple):
    """A search, or one of several that follow each other with the same shared weights.

    `share` is its share of the family's CPU seconds, `trials` names settings of the strategy as shares of the trials, `schedule` is the
    share that this phase has of what is left of the weights' schedule. `rungs` are shares of a plain candidate's steps; with them
    a full training is three times the last one.
    """

    strategy: Mapping[str, Any]
    evaluator: Mapping[str, Any]
    share: float = 1.0
    trials: Mapping[str, float] = {}
    schedule: float = 1.0
    rungs: Sequence[float] = ()


FAMILIES: Mapping[str, Sequence[Phase]] = {
    "random": [Phase({"name": "random"}, SCRATCH)],
    "evolution": [Phase(EVOLUTION, SCRATCH)],
    "local": [Phase({"name": "local"}, SCRATCH)],
    "reinforce": [Phase({"name": "reinforce"}, SCRATCH)],
    "predictor": [Phase({"name": "predictor"}, SCRATCH)],
    "asha": [Phase({"name": "halving", "strategy": EVOLUTION}, SCRATCH, rungs=(1 / 3, 1.0))],
    "enas": [
        Phase({"name": "random"}, {**SHARED, "last_looks": 1}, 0.4, schedule=0.4),
        Phase({"name": "reinforce"}, SHARED, 0.6),
    ],
    "spos": [
        Phase({"name": "random"}, {**SHARED, "last_looks": 1}, 0.7),
        Phase({"name": "evolution", "population": 15, "tournament": 4}, LOOKING, 0.3),
    ],
    "darts": [Phase({"name": "darts"}, SHARED, trials={"decay_trials": 1.0})],
    "darts-unguarded": [Phase({"name": "darts", "guard": "none"}, SHARED)],
    "darts-curvature": [Phase({"name": "darts", "guard": "curvature"}, {**SHARED, "curvature_every": 20})],
    "gdas": [Phase({"name": "gdas"}, SHARED, trials={"warmup": 1 / 3, "anneal": 2 / 3})],
    "drnas": [Phase({"name": "drnas"}, SHARED)],
}


class Plan(NamedTuple):
    """What every family gets, and how winners and random architectures are trained."""

    seconds: float
    widths: tuple[int, ...]
    cells: int
    batch: int
    steps: int
    retrain_steps: int


def run_family(name: str, bench: Bench, plan: Plan) -> dict[str, Any]:
    """Search by one family; returns the winner, the CPU seconds and trials of the search, and the curves of a gradient method.

    `own` is what a method that shares weights named first, so what it decided for before any architecture was looked at.
    """
    budget, counts, former = Budget(plan.seconds), list[int](), None
    for number, phase in enumerate(FAMILIES[name], 1):
        part = Budget(budget.left if number == len(FAMILIES[name]) else phase.share * plan.seconds)
        chosen = _chosen(phase, plan, bench, None)
        if chosen.evaluator.looks:
            chosen = _chosen(phase, plan, bench, _fitting(phase, chosen, bench, part), sum(counts))
        chosen.evaluator.bind(bench)
        if former is not None:
            chosen.evaluator.load_state_dict(former)
        strategy = search_start.prepare(Path(), chosen, bench)
        found = list(_trials(chosen, strategy, bench, part))
        former = chosen.evaluator.state_dict()
        named = [trial for trial in found if trial.proposal.steps == 0 and chosen.evaluator.looks]
        counts.append(len(found) - len(named))
    comparable = [trial for trial in strategy.candidates(found) if chosen.evaluator.comparable(trial)]
    best = finalists(comparable, chosen.evaluator, chosen.objective, count=FINALISTS, split="confirm")[0]
    chosen.evaluator.forget(set())
    scores = {"select": best.trial.score.values[0] if best.trial.score else None, "confirm": best.score.values[0]}
    own = {"own": dict(named[0].architecture)} if named else {}
    cost = {"cpu_seconds": round(budget.used, 1), "trials": counts}
    return {"architecture": dict(best.trial.architecture), **own, **cost, **scores, "curves": _curves(strategy)}


def _chosen(phase: Phase, plan: Plan, bench: Bench, trials: int | None, before: int = 0) -> Search:
    """The settings of a phase, after so many trials `before`; without a number of trials, those that its steps are measured with."""
    count = 10**6 if trials is None else trials
    strategy = {**phase.strategy, **{name: max(1, round(share * count)) for name, share in phase.trials.items()}}
    evaluator = {**phase.evaluator, "recipe": {**phase.evaluator["recipe"], "batch_size": plan.batch}}
    if evaluator["name"] == "shared":
        evaluator["schedule_steps"] = before + round(count / phase.schedule)
    else:
        evaluator["steps"] = plan.steps * (3 if phase.rungs else 1)
    if phase.rungs:
        strategy["rungs"] = [round(share * plan.steps) for share in phase.rungs]
    return Search(seed=bench.seed, trials=count, space=bench.space, strategy=strategy, evaluator=evaluator)  # type: ignore[arg-type]


def _fitting(phase: Phase, chosen: Search, bench: Bench, budget: Budget) -> int:
    """The trials that fit into a budget beside the looks at the end, by some trials and a look on weights that are thrown away."""
    evaluator = chosen.evaluator.model_copy().bind(bench)
    strategy = search_start.prepare(Path(), chosen, bench)
    running = search(strategy, evaluator, chosen.objective, MemoryJournal(), trials=chosen.trials, seed=bench.seed)
    for _ in range(WARM_UP):
        trial = next(running)
    start, count = budget.used, max(MEASURED, phase.evaluator.get("curvature_every", 0))
    for _ in range(count):
        trial = next(running)
    step, start = (budget.used - start) / count, budget.used
    evaluator.reassess(trial, "select")
    looks = (chosen.evaluator.looks + FINALISTS) * (budget.used - start)
    return max(WARM_UP, int((budget.left - looks) / max(step, 1e-4)))


def _trials(chosen: Search, strategy: Strategy, bench: Bench, budget: Budget) -> Iterator[Trial]:
    """The trials of a phase: as many as were planned, and otherwise until the budget is used."""
    running = search(strategy, chosen.evaluator, chosen.objective, MemoryJournal(), trials=chosen.trials, seed=bench.seed)
    for trial in running:
        yield trial
        if not chosen.evaluator.looks and budget.left <= 0:
            return


def _curves(strategy: Strategy) -> dict[str, list[float]]:
    """What a gradient method says of skips and of how decided it is, at about ten points of its search."""
    told = {name: curve for name, curve in strategy.telemetry().items() if name in ("trial", "skip_share", "skip_weight", "entropy")}
    if "skip_share" not in told:
        return {}
    points = len(told["trial"])
    chosen = sorted({round(position * (points - 1) / 9) for position in range(10)})
    return {name: [round(curve[point], 4) for point in chosen] for name, curve in told.items()}


def trained(architecture: Mapping[str, str], seed: int, bench: Bench, plan: Plan) -> dict[str, Any]:
    """Train from first weights on all images but the test set, then test once."""
    budget, cpu = Budget(0.0), torch.device("cpu")
    parts = ("fit", "select", "confirm")
    examples = load_examples([(bench.dataset.inputs(part), bench.dataset.targets(part)) for part in parts], cpu)
    held = load_examples([(bench.dataset.inputs("test"), bench.dataset.targets("test"))], cpu)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = bench.space.build(architecture, bench.task)
    recipe = Recipe(learning_rate=0.1, batch_size=64)
    training = Training(network, bench.task, recipe, total=plan.retrain_steps, seed=seed, device=cpu)
    with Limits(divergence_steps=None).watch(cpu) as guard:
        training.advance(examples, plan.retrain_steps, guard)
    metrics = bench.task.metrics(outputs_of(training.result, held, bench.task), held.targets)
    return {"architecture": dict(architecture), "accuracy": metrics["accuracy"], "cpu_seconds": round(budget.used, 1)}


class Bout:
    """The measurement itself: pieces from the log, and those that are still to be made. `folder` holds the prepared data in `data`."""

    def __init__(self, plan: Plan, log: Log, folder: Path) -> None:
        self.plan, self.log, self.folder = plan, log, folder
        dataset = Dataset.open(folder / "data")
        space = Cell(widths=plan.widths, cells=plan.cells)
        self.bench = Bench(space, ImageClassification().bind(dataset.description), dataset, folder / "trained", 0)

    def searched(self, family: str, seed: int) -> dict[str, Any]:
        """A family's search."""
        own = replace(self.bench, seed=seed, folder=self.folder / f"{family}-{seed}")
        return self.log.once({"piece": "search", "family": family, "seed": seed}, partial(run_family, family, own, self.plan))

    def accuracies(self, architecture: Mapping[str, str], seeds: Sequence[int]) -> list[float]:
        """Test accuracies of an architecture that is trained from each seed; cells of one function are trained once."""
        form = self.bench.space.canonical(architecture, self.bench.task)
        keys = [{"piece": "trained", "form": form, "seed": seed} for seed in seeds]
        pieces = [self.log.once(key, partial(trained, architecture, key["seed"], self.bench, self.plan)) for key in keys]
        return [float(piece["accuracy"]) for piece in pieces]

    def randoms(self, count: int, seed: int) -> list[Architecture]:
        """Random architectures, drawn independently."""
        rng, choices = np.random.default_rng(seed), self.bench.space.choices(self.bench.task)
        return [choices.sample(rng) for _ in range(count)]


def cell_of(architecture: Mapping[str, str]) -> str:
    """The operations of a cell by how often each occurs, such as `3 nor_conv_3x3, 2 skip_connect, 1 none`."""
    return ", ".join(f"{count} {operation}" for operation, count in Counter(architecture.values()).most_common())


def measure(bout: Bout, options: argparse.Namespace) -> dict[str, Any]:
    """Make every piece that the log does not hold, and return the table."""
    randoms = [bout.accuracies(architecture, options.seeds[:1])[0] for architecture in bout.randoms(options.randoms, options.random_seed)]
    print(f"random architectures: {_percent(randoms)}", flush=True)
    found = []
    for seed, family in ((seed, family) for seed in options.search_seeds for family in options.families):
        piece = bout.searched(family, seed)
        values = bout.accuracies(piece["architecture"], options.seeds)
        cost = f"{piece['trials']} trials in {piece['cpu_seconds']} CPU s"
        print(f"{family}, seed {seed}: {_percent(values)}, {cell_of(piece['architecture'])}; {cost}", flush=True)
        found.append((family, values))
        if options.own and "own" in piece:
            values = bout.accuracies(piece["own"], options.seeds)
            print(f"{family}, seed {seed}, before the looks: {_percent(values)}, {cell_of(piece['own'])}", flush=True)
            found.append((f"{family}, before the looks", values))
    return table(found, randoms)


def _percent(accuracies: Sequence[float]) -> str:
    return " ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)


def main() -> None:
    """Read the command line, measure and print."""
    options = _options()
    if not options.archive.exists():
        sys.exit(f"families: {options.archive} does not exist: give an npz archive with --archive")
    if unknown := [name for name in options.families if name not in FAMILIES]:
        sys.exit(f"families: no family is named {unknown[0]!r}: pick from {', '.join(FAMILIES)}")
    pin_threads()
    plan = Plan(**{name: getattr(options, name) for name in Plan._fields})
    source, splits = Npz(path=str(options.archive.resolve())), Splits(limit=options.limit)
    with tempfile.TemporaryDirectory() as name:
        try:
            described = prepare(source, splits, Path(name) / "data", task="image_classification", root=Path())
            with Log(options.log, {**plan._asdict(), "digest": described.digest}) as log:
                print(json.dumps(measure(Bout(plan, log, Path(name)), options)))
        except ValueError as error:
            sys.exit(f"families: {error}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--limit", type=int, default=10_000, help="training images in all")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines of what is finished; made when it is missing")
    parser.add_argument("--families", type=lambda text: text.split(","), default=list(FAMILIES), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=120.0, help="CPU seconds of each search")
    parser.add_argument("--search-seeds", type=_numbers, default=(0,), help="every family searches once from each")
    parser.add_argument("--widths", type=_numbers, default=(8, 16), help="channels per stage")
    parser.add_argument("--cells", type=int, default=1, help="per stage")
    parser.add_argument("--batch", type=int, default=32, help="images per step of a search")
    parser.add_argument("--steps", type=int, default=80, help="of a candidate that is trained by itself")
    parser.add_argument("--retrain-steps", type=int, default=400, help="of a winner or a random architecture, batch 64")
    parser.add_argument("--seeds", type=_numbers, default=(0, 1), help="of the trainings of a winner; randoms are trained from the first")
    parser.add_argument("--own", action="store_true", help="also train what methods that share weights decided for before any look")
    parser.add_argument("--randoms", type=int, default=20, help="random architectures")
    parser.add_argument("--random-seed", type=int, default=0, help="draws them")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    main()
