"""The contract of spaces, held for every file of nas/spaces."""

import inspect
import re
from typing import Any, ClassVar

import pytest

from nas.load import load, names
from nas.spaces.base import SearchSpace
from nas.testing import SpaceContract
from nas.testing.contract import refusal

SMALL: dict[str, dict[str, Any]] = {
    "cell": {"widths": (4, 8), "cells": 1},
    "chain": {"widths": ((4, 6), (6, 8))},
}
"""Settings that keep the contract quick; a space that is not named is tried as it is."""


class TestEverySpace(SpaceContract):
    """All that any space is held to, and what only ours are: defaults, a citation, and one reason not to share weights."""

    merges: ClassVar[bool] = True

    @pytest.fixture(autouse=True, params=names("spaces"))
    def _chosen(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param
        self.ordered = self.name != "cell"  # the edge a convolution sits on is only a name; test_cell.py matches them properly

    def make(self) -> SearchSpace:
        space: SearchSpace = load("spaces", self.name)(**SMALL.get(self.name, {}))
        return space

    def test_only_a_number_is_a_reason_not_to_share_weights(self) -> None:
        space, task = self.make(), self.task(classes=3)
        numbers = any(all(option.isdecimal() for option in choice.options) for choice in space.choices(task))
        reason = refusal(lambda: space.supernet(task))
        assert (reason is not None) == numbers
        assert reason is None or re.match(r"choice '.*' picks a number, which a supernet cannot mix: use ", reason)

    def test_the_source_is_cited_and_every_setting_has_a_default(self) -> None:
        kind = load("spaces", self.name)
        module = inspect.getmodule(kind)
        assert module is not None
        assert re.search(r"\b(19|20)\d\d\b", module.__doc__ or ""), "the source is cited with its year"
        assert kind.__doc__
        assert kind().choices(self.task()) == kind().choices(self.task())
