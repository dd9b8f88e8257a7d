"""Which architecture is trained: the winner, or the candidate that a person or the fallback names."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.candidates import FILE, following, winner_of


def offer(root: Path, *feasible: int, infeasible: tuple[int, ...] = ()) -> None:
    """Let the search have left candidates of these numbers, in this order, then infeasible ones; the winner is the first."""
    folder = root / "results" / "search"
    folder.mkdir(parents=True)
    offered: list[dict[str, Any]] = [{"trial": number, "architecture": {"a": str(number)}, "feasible": True} for number in feasible]
    offered += [{"trial": number, "architecture": {"a": str(number)}, "feasible": False} for number in infeasible]
    (folder / FILE).write_text(json.dumps(offered))
    (folder / "best.json").write_text(json.dumps({**offered[0], "metric": "accuracy", "search": "s"}))


def numbers(found: list[dict[str, Any]]) -> list[int]:
    return [candidate["trial"] for candidate in found]


def test_null_and_its_own_number_are_the_winner(tmp_path: Path) -> None:
    offer(tmp_path, 7, 3)
    assert winner_of(tmp_path, None) == winner_of(tmp_path, 7)
    assert winner_of(tmp_path, None)["architecture"] == {"a": "7"}


def test_another_candidate_takes_the_place_of_the_winner_and_keeps_what_all_share(tmp_path: Path) -> None:
    offer(tmp_path, 7, 3)
    assert winner_of(tmp_path, 3) == {"trial": 3, "architecture": {"a": "3"}, "feasible": True, "metric": "accuracy", "search": "s"}


def test_a_number_that_was_not_offered_is_refused_with_those_that_were(tmp_path: Path) -> None:
    offer(tmp_path, 7, 3)
    with pytest.raises(ValueError, match=r"train\.trial is 5, but the candidates of the search are 7, 3: take one of these, or null"):
        winner_of(tmp_path, 5)


def test_who_follows_is_feasible_and_comes_later(tmp_path: Path) -> None:
    offer(tmp_path, 7, 3, 5, infeasible=(9, 1))
    assert numbers(following(tmp_path, 7)) == [3, 5]
    assert numbers(following(tmp_path, 3)) == [5]
    assert numbers(following(tmp_path, 5)) == []
    assert numbers(following(tmp_path, 9)) == []
    assert numbers(following(tmp_path, 4)) == [7, 3, 5], "one that the search did not offer comes before all that it did"


def test_nobody_follows_without_a_search(tmp_path: Path) -> None:
    assert following(tmp_path, 0) == []
