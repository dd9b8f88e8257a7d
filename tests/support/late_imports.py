"""What the process of a search's worker still imports after it was forked."""

import json
import sys
from pathlib import Path
from typing import Any, final

import numpy as np

import flows.settings  # noqa: F401 - what a stage has read before it starts the server
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, Evaluator
from nas.fork_server import LATE_IMPORTS, imported_late, start_server
from nas.load import load
from nas.processes import Slot, Work
from nas.spaces.chain import Chain
from nas.trial import Proposal, Trial

SLOW = ("torch._dynamo", "torch.utils.flop_counter")


@final
class Noticing(Work):
    """Evaluates a trial, and tells what was imported for it."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def begin(self) -> None:
        """Notice what is there already."""
        self._forked = set(sys.modules)

    def answer(self, question: Trial) -> list[str]:
        """Return what was imported after the fork, of ours, and of PyTorch what takes long."""
        self._evaluator.warm_up()
        report = self._evaluator.evaluate(question)
        assert report.error is None, report.error
        return sorted(name for name in set(sys.modules) - self._forked if name.split(".")[0] in ("nas", "export") or name in SLOW)


def main(data: Path, folder: Path) -> None:
    """Print that, as JSON, for a trial of each evaluator that trains or measures networks in workers."""
    assert "torch" not in sys.modules
    start_server("flows.stages.search", *imported_late(), *LATE_IMPORTS)
    dataset, task = Dataset.open(data), load("tasks", "image_classification")()
    bench = Bench(Chain(widths=((4,),)), task.bind(dataset.description), dataset, folder, 0)
    trial = Trial(0, Proposal(bench.space.choices(task).sample(np.random.default_rng(0))))
    settings: dict[str, dict[str, Any]] = {"scratch": {"steps": 2}, "proxy": {"reference": 2, "batch_size": 4, "measures": ("logsynflow",)}}
    found: dict[str, list[str]] = {}
    for name, chosen in settings.items():
        slot = Slot(Noticing(load("evaluators", name)(device="cpu", **chosen).bind(bench)))
        found[name] = slot.run(trial)
        slot.end()
    print(json.dumps(found))
