"""What a long measurement needs: its log goes on after a kill and refuses another plan, and its table adds up."""

import json
from pathlib import Path
from types import ModuleType

import benchmark_files
import pytest


@pytest.fixture(scope="module")
def pieces() -> ModuleType:
    """The file as a module: its folder is no package."""
    return benchmark_files.load("pieces")


def test_a_piece_is_made_once_and_again_when_its_line_was_cut_off(pieces: ModuleType, tmp_path: Path) -> None:
    path, made = tmp_path / "log.jsonl", []

    def make() -> dict[str, int]:
        made.append(1)
        return {"value": len(made)}

    for expected in (1, 1):
        with pieces.Log(path, {"seconds": 1}) as log:
            assert log.once({"piece": "search", "seed": 0}, make) == {"piece": "search", "seed": 0, "value": expected}
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pieces.Log(path, {"seconds": 1}) as log:
        assert log.once({"piece": "search", "seed": 0}, make)["value"] == 2
    assert [json.loads(line)["piece"] for line in path.read_text().splitlines()] == ["plan", "search"]


def test_the_log_of_another_plan_is_refused_and_left_as_it_is(pieces: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with pieces.Log(path, {"seconds": 1, "widths": (8, 16)}):
        pass
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"the log of another plan, .*\"seconds\": 1.*: name another file with --log"):
        pieces.Log(path, {"seconds": 2, "widths": (8, 16)})
    assert path.read_bytes() == before


def test_a_budget_counts_the_work_of_this_process(pieces: ModuleType) -> None:
    budget = pieces.Budget(0.03)
    assert budget.left > 0
    while budget.left > 0:
        sum(range(10_000))
    assert budget.used >= 0.03


def test_the_table_compares_means_with_their_errors(pieces: ModuleType) -> None:
    found = [("darts", [0.80, 0.82]), ("random", [0.70, 0.74]), ("darts", [0.84, 0.84])]
    table = pieces.table(found, [0.70, 0.80])
    assert table["random"] == {"mean": 75.0, "std": 7.071, "best": 80.0, "architectures": 2}
    darts, random = table["families"]
    assert (darts["family"], darts["trainings"], darts["mean"], darts["difference"], darts["beats_random"]) == ("darts", 4, 82.5, 7.5, True)
    assert (random["family"], random["difference"], random["beats_random"]) == ("random", -3.0, False)
    # the variances of the three winners are 2, 8 and 0 squared points, (2 + 8 + 0) / 3 pooled; that of the random ones is 50
    assert darts["standard_error"] == pytest.approx((50 / 2 + 10 / 3 / 4) ** 0.5, abs=1e-3)
    assert random["standard_error"] == pytest.approx((50 / 2 + 10 / 3 / 2) ** 0.5, abs=1e-3)
