"""The contract of strategies, held for every file of nas/strategies."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from fake_search import small_strategy

from nas.load import load, names
from nas.strategies.base import Strategy
from nas.testing import StrategyContract


class TestEveryStrategy(StrategyContract):
    """All that any strategy is held to, and what only ours are: defaults and a citation."""

    @pytest.fixture(autouse=True, params=names("strategies"))
    def _chosen(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def make(self) -> Strategy:
        return small_strategy(self.name)

    def length(self) -> int:
        return 42 if self.name == "gp" else 60  # see small_strategy

    def test_every_setting_has_a_default(self) -> None:
        strategy = load("strategies", self.name)
        assert [field for field, information in strategy.model_fields.items() if information.is_required()] == []
        assert strategy() == strategy.model_validate(strategy().model_dump())

    def test_the_file_opens_with_its_citation(self) -> None:
        path = inspect.getsourcefile(load("strategies", self.name))
        assert path is not None
        docstring = ast.get_docstring(ast.parse(Path(path).read_text())) or ""
        assert re.search(r"\b(19|20)\d\d\b", docstring), "say who published the method, and when"


def test_every_strategy_is_held_to_the_contract() -> None:
    assert len(names("strategies")) >= 14
