"""Ancestors: nearest first, each once, however they are entangled."""

import pytest

from nas.ancestry import ancestors, changed, named, sources
from nas.architecture import Architecture
from nas.trial import Proposal, Trial


def test_a_trial_names_the_one_it_continues_before_those_it_was_made_from() -> None:
    made = Proposal(Architecture({}), parent=3, origin=(1, 3))
    assert sources([Trial(0, Proposal(Architecture({}))), Trial(4, made)]) == {0: (), 4: (3, 1)}
    assert named(None, [2, 2, 1]) == (2, 1)


@pytest.mark.parametrize(
    ("known", "number", "found"),
    [
        ({0: ()}, 0, [0]),
        ({0: (), 1: (0,), 2: (0,), 3: (1, 2), 9: (0,)}, 3, [3, 1, 2, 0]),
        ({0: (), 2: (0,), 3: (2, 0)}, 3, [3, 2, 0]),
        ({3: (1, 2), 2: ()}, 3, [3, 2]),
        ({0: (1,), 1: (0,)}, 0, [0, 1]),
        ({}, 5, []),
    ],
    ids=["alone", "diamond", "at two distances", "unknown", "a circle", "nothing"],
)
def test_ancestors_come_nearest_first_and_once(known: dict[int, tuple[int, ...]], number: int, found: list[int]) -> None:
    assert list(ancestors(known, number)) == found


def test_what_is_new_is_what_no_source_has() -> None:
    own, one, other = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "1", "c": "1"}, {"a": "2", "b": "1", "c": "2"}
    assert changed(own, [one]) == {"b": ("1", "2"), "c": ("1", "3")}
    assert changed(own, [one, other]) == {"b": ("1", "2"), "c": ("1 or 2", "3")}
    assert changed(own, []) == {}
