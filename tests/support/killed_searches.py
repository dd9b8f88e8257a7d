"""Small searches and trainings to kill: every strategy, with every evaluator that fits it, on a few of the digits."""

import csv
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from fake_search import number_of, plain

from flows import search_start
from flows.searches import Search
from nas import atomic, checkpoint, journal
from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits
from nas.evaluators.base import Bench, Evaluator
from nas.evaluators.scratch import Scratch
from nas.evaluators.shared import Shared
from nas.finalists import finalists
from nas.journal import FileJournal
from nas.load import load
from nas.load import names as names_of
from nas.search import search
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.trial import Proposal, Trial
from nas.workers import Workers

_CHAIN = {"name": "chain", "widths": [[4, 6, 8]], "blocks": 2, "kernels": [1, 3], "expansions": [1, 2]}
SPACE = Chain.model_validate({name: value for name, value in _CHAIN.items() if name != "name"})
_CELL = {"name": "cell", "widths": [4], "cells": 1}
_RUNGS = (3, 6)
_STEPS = 12
_COMMIT_EVERY = 5
"""In place of the hundreds of trials between two commits of shared weights, which a short search never reaches."""
_STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "darts": {"warmup": 3},
    "evolution": {"population": 4, "tournament": 2},
    "gp": {"startup": 8},
    "halving": {"rungs": _RUNGS, "strategy": {"name": "evolution", "population": 4, "tournament": 2}},
    "hyperband": {"rungs": _RUNGS},
    "local": {"initial": 4},
    "nsga2": {"population": 4},
    "predictor": {"initial": 5, "neighbours": 10, "strangers": 10},
    "tpe": {"startup": 5},
}
_TRIALS = {"table": 30, "scratch": 9, "proxy": 14, "shared": 24}
_SLOW = {"gp": 12, "predictor": 10}
"""Strategies whose models take a tenth of a second per trial, and the trials that show them at work."""


@final
@dataclass(frozen=True)
class SearchJob:
    """A search, or several of which each goes on with the weights of the one before; `shared` is what `make_shared` filled."""

    shared: Path
    strategies: tuple[str, ...]
    evaluator: str
    workers: int = 1

    def __str__(self) -> str:
        return f"{'+'.join(self.strategies)} x {self.evaluator} x {self.workers}"

    def run(self, folder: Path, ready: Callable[[], None]) -> None:
        """Search as the stage does, and note the winner."""
        Shared.commit_every = _COMMIT_EVERY
        dataset = Dataset.open(self.shared / "prepared")
        task = ImageClassification().bind(dataset.description)
        before: Search | None = None
        for index, strategy in enumerate(self.strategies):
            entry = Search.model_validate(self._settings(strategy, index))
            place = folder / str(index)
            bench = Bench(entry.space, task, dataset, place, entry.seed)
            entry.evaluator.bind(bench)
            if isinstance(entry.evaluator, Scratch):
                entry.evaluator._checkpoint_seconds = 0.02
            if before is not None:
                entry.evaluator.load_state_dict(before.evaluator.state_dict())
            bound = search_start.prepare(place, entry, bench)
            with ExitStack() as stack:
                evaluator = _workers(stack, entry)
                ready()
                memory = stack.enter_context(FileJournal(place, fingerprint=str(self)))
                trials = list(search(bound, evaluator, entry.objective, memory, trials=entry.trials, seed=entry.seed))
            before = entry
        candidates = [trial for trial in bound.candidates(trials) if entry.evaluator.comparable(trial)]
        ranked = finalists(candidates, entry.evaluator, entry.objective, count=2, split="confirm")
        outcome = [{"trial": one.trial.number, "metrics": dict(one.metrics), "score": list(one.score)} for one in ranked]
        atomic.write_json(folder / "outcome.json", outcome)

    def content(self, folder: Path) -> Mapping[str, Any]:
        """Trials without seconds, learned state, weights, and the finalists."""
        found: dict[str, Any] = {"outcome.json": (folder / "outcome.json").read_text()}
        for index in range(len(self.strategies)):
            place = folder / str(index)
            found[f"{index}/trials"] = plain(journal.read(place))
            for path in sorted([*place.glob("*.pt"), *place.glob("weights/trial-*.pt")]):
                found[str(path.relative_to(folder))] = plain_state(checkpoint.load(path))
        return found

    def _settings(self, strategy: str, index: int) -> dict[str, Any]:
        looks = self.evaluator == "shared" and index > 0
        return {
            "seed": 3,
            "trials": min(_TRIALS[self.evaluator], _SLOW.get(strategy, 1000)),
            "workers": self.workers,
            "space": _CELL if self.evaluator == "shared" else _CHAIN,
            "strategy": {"name": strategy, **_STRATEGIES.get(strategy, {})},
            "evaluator": self._evaluator() | ({"steps": 0} if looks else {}),
            "objective": {"constraints": {"parameters": "<= 1500"}} if self.evaluator == "scratch" else _objective(self.evaluator),
        }

    def _evaluator(self) -> dict[str, Any]:
        recipe = {"batch_size": 32, "learning_rate": 0.05}
        return {
            "table": {
                "name": "table",
                "path": str(self.shared / "table.csv"),
                "metrics": {"accuracy": {str(steps): f"steps_{steps}" for steps in (*_RUNGS, _STEPS)}},
            },
            "scratch": {"name": "scratch", "steps": _STEPS, "device": "cpu", "recipe": {**recipe, "ema": 0.9}},
            "proxy": {"name": "proxy", "reference": 6, "batch_size": 16, "device": "cpu"},
            "shared": {
                "name": "shared",
                **{"schedule_steps": 24, "recalibration": 2, "tuning": 2, "last_looks": 3, "device": "cpu", "recipe": recipe},
            },
        }[self.evaluator]


def _objective(evaluator: str) -> dict[str, Any]:
    return {"metrics": ["rank_sum"]} if evaluator == "proxy" else {}


def _workers(stack: ExitStack, entry: Search) -> Evaluator:
    """The evaluator as the stage has it: in processes, unless it shares weights.

    They are forked one by one, before this process computes anything: a fork at the wrong moment would inherit a lock.
    """
    if entry.evaluator.commit_every > 1:
        return entry.evaluator
    workers = stack.enter_context(Workers.around(entry.evaluator, entry.workers))
    nothing = Proposal(Architecture({}), mixture={})
    for number in range(entry.workers):
        report = workers.submit(Trial(number, nothing)).result()
        assert report.error is not None, "an evaluator refuses a mixture without choices, so this started a process and no more"
    return workers


def make_shared(folder: Path) -> None:
    """Fill a folder with what all jobs read: a few prepared digits, and the table of a space in which one architecture of ten fails."""
    prepare(Digits(), Splits(limit=160), folder / "prepared", task="image_classification", root=folder)
    task = ImageClassification().bind(Dataset.open(folder / "prepared").description)
    choices = SPACE.choices(task)
    names = [choice.name for choice in choices]
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", *(f"steps_{steps}" for steps in (*_RUNGS, _STEPS))])
        for options in itertools.product(*(choice.options for choice in choices)):
            architecture = dict(zip(names, options, strict=True))
            if number_of({**architecture, "fails": ""}) % 10 == 0:
                continue
            value = number_of(architecture) % 1009 / 1009
            noise = number_of({**architecture, "more": ""}) % 101 / 505
            writer.writerow([json.dumps(architecture), value / 3 + noise, value / 2 + noise / 2, value])


def search_jobs(shared: Path) -> list[SearchJob]:
    """Every strategy with every evaluator that fits it, by one worker and by two where that is allowed."""
    jobs = [SearchJob(shared, ("random", "evolution"), "shared")]
    for strategy in names_of("strategies"):
        needs = load("strategies", strategy)().requires
        for evaluator in ("shared", "table", "scratch", "proxy"):
            if evaluator == "shared" and ("gradient" in needs or strategy == "reinforce"):
                jobs.append(SearchJob(shared, (strategy,), evaluator))
            if evaluator != "shared" and "gradient" not in needs and not ("steps" in needs and evaluator == "proxy"):
                jobs += [SearchJob(shared, (strategy,), evaluator, workers) for workers in (1, 2)]
    return jobs


def plain_state(value: Any) -> Any:
    """A state as values that can be compared with ==, tensors by the digest of their bytes."""
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
        return [str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()]
    if isinstance(value, Mapping):
        return {repr(key): plain_state(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_state(item) for item in value]
    return repr(value)
