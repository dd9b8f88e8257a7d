"""The contract of evaluators, held for every file of nas/evaluators."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from nas.evaluators.base import Evaluator
from nas.load import load, names
from nas.testing import EvaluatorContract
from nas.training.recipe import Recipe

RECIPE = Recipe(batch_size=32, learning_rate=0.05)
SMALL: dict[str, dict[str, Any]] = {
    "proxy": {"batch_size": 16, "reference": 4, "device": "cpu"},
    "scratch": {"steps": 3, "recipe": RECIPE, "device": "cpu"},
    "shared": {
        **{"schedule_steps": 20, "recipe": RECIPE, "device": "cpu", "recalibration": 2, "tuning": 1},
        **{"curvature_every": 2, "curvature_products": 2, "last_looks": 3},
    },
}


def write_table(path: Path) -> Path:
    """A table of all architectures of the space that the contract tries evaluators on."""
    rows = [json.dumps({"first": first, "second": second}) for first, second in product(("conv3", "conv1", "skip"), repeat=2)]
    quoted = ['"' + row.replace('"', '""') + '"' for row in rows]
    path.write_text("arch,accuracy\n" + "".join(f"{row},{50 + index}\n" for index, row in enumerate(quoted)))
    return path


class TestEveryEvaluator(EvaluatorContract):
    """All that any evaluator is held to, and what only ours are: described recipes and limits."""

    @pytest.fixture(autouse=True, params=names("evaluators"))
    def _chosen(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self.name, self.folder = request.param, tmp_path

    def make(self) -> Evaluator:
        settings = {"path": write_table(self.folder / "table.csv")} if self.name == "table" else SMALL[self.name]
        evaluator: Evaluator = load("evaluators", self.name)(**settings)
        return evaluator


def test_every_evaluator_is_held_to_the_contract() -> None:
    assert set(names("evaluators")) == {*SMALL, "table"}
