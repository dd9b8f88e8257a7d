"""The folder of the released model: replaced at once, whole or not at all, with the newest others beside it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_project import inside, nasflow

from flows import released
from flows.released import Decision
from nas.atomic import DiskError


def bundle_of(root: Path, content: str) -> Path:
    """A folder that stands for a bundle."""
    folder = root / "bundle"
    (folder / "triton").mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "triton/config.pbtxt"):
        (folder / name).write_text(content)
    return folder


def placed(root: Path, number: int, promoted: bool) -> Decision:
    """A model that is put there; its number is in its digest and its time."""
    decision = Decision(promoted, f"reason {number}", f"{number:064x}"[::-1], f"2026-01-01 00:00:{number:02d}")
    released.place(root, bundle_of(root, str(number)), decision)
    return decision


def test_the_link_goes_from_one_whole_model_to_the_next(tmp_path: Path) -> None:
    assert released.current(tmp_path) is None
    for number in (1, 2):
        decision = placed(tmp_path, number, promoted=True)
        used = released.current(tmp_path)
        assert used is not None
        assert released.decision_of(used) == decision
        assert (tmp_path / "released/current/triton/config.pbtxt").read_text() == str(number)
    assert os.readlink(tmp_path / "released/current") == f"models/{decision.sha256[:16]}"  # moves with the folder


def test_a_candidate_is_kept_and_may_be_released_later(tmp_path: Path) -> None:
    placed(tmp_path, 1, promoted=True)
    candidate = placed(tmp_path, 2, promoted=False)
    assert (tmp_path / "released/current/model.onnx").read_text() == "1"
    assert released.candidates(tmp_path) == [candidate]
    later = replace(candidate, promoted=True, reason="by hand")
    released.place(tmp_path, bundle_of(tmp_path, "2"), later)
    assert (tmp_path / "released/current/model.onnx").read_text() == "2"
    assert released.decision_of(tmp_path / "released/current") == later


def test_the_newest_are_kept_and_never_less_than_the_one_in_use(tmp_path: Path) -> None:
    used = placed(tmp_path, 0, promoted=True)
    for number in range(1, released.KEPT + 3):
        placed(tmp_path, number, promoted=False)
    kept = [int(decision.reason.split()[1]) for decision in released.candidates(tmp_path)]
    assert kept == list(range(released.KEPT + 2, 2, -1))
    assert released.decision_of(tmp_path / "released/current") == used


def test_what_a_kill_left_is_cleared_and_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed(tmp_path, 1, promoted=True)
    left = tmp_path / "released/models/.fresh-0123"
    left.mkdir()
    (tmp_path / "released/.current").symlink_to("models/nowhere")
    placed(tmp_path, 2, promoted=True)
    assert not left.exists()
    assert (tmp_path / "released/current/model.onnx").read_text() == "2"

    def full(*arguments: object, **others: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(released.shutil, "copytree", full)
    with pytest.raises(DiskError, match="no space is left on the disk; what was released before is still in use"):
        placed(tmp_path, 3, promoted=True)
    assert (tmp_path / "released/current/model.onnx").read_text() == "2"


def test_the_command_shows_what_is_released_and_what_was_not(tmp_path: Path) -> None:
    with inside(tmp_path):
        refused = nasflow("released")
        assert (refused.code, refused.errors) == (1, "nasflow: nothing is released yet: `nasflow promote` releases what was exported\n")
        placed(tmp_path, 1, promoted=True)
        placed(tmp_path, 2, promoted=False)
        shown = nasflow("released").output
        assert "reason 1" in shown
        assert "never     reason 2" in shown
        (tmp_path / "released/current/decision.json").write_text("{}")
        assert "does not say why the model is there" in nasflow("released", "--json").errors


def test_a_decision_is_a_page_too() -> None:
    decision = Decision(True, "better", "ab" * 32, "2026-01-01 00:00:00", "cd" * 32, {"metric": "accuracy"}, {"trial": "3"})
    page = decision.markdown()
    assert page.startswith(f"### model {'ab' * 8} is released: better\n")
    assert f"| replaces | {'cd' * 32} |" in page
    assert page.endswith("| metric | accuracy |\n| trial | 3 |")
