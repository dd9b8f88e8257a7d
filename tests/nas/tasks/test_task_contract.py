"""The contract of tasks, held for every file of nas/tasks."""

import inspect
import re

import pytest

from nas.data.sources.base import Source
from nas.data.sources.digits import Digits
from nas.load import load, names
from nas.tasks.base import Task
from nas.testing import TaskContract
from nas.testing.contract import refusal
from nas.testing.images import describe

SOURCES: dict[str, type[Source]] = {"image_classification": Digits}
"""A source that needs no files, per task: a new task brings real data with it."""


class TestEveryTask(TaskContract):
    """All that any task is held to, and what only ours are: a docstring, and one wording."""

    @pytest.fixture(autouse=True, params=names("tasks"))
    def _chosen(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def make(self) -> Task:
        task: Task = load("tasks", self.name)()
        return task

    def source(self) -> Source:
        return SOURCES[self.name]()

    def test_the_module_says_what_it_is(self) -> None:
        assert (inspect.getmodule(load("tasks", self.name)).__doc__ or "").strip()  # type: ignore[union-attr]

    def test_data_of_another_task_are_refused_with_the_cure(self) -> None:
        reason = refusal(lambda: self.make().bind(describe(task="juggling")))
        assert re.search("prepared for 'juggling': prepare them for ", reason or "")


def test_every_task_has_data() -> None:
    assert set(SOURCES) == set(names("tasks"))
