"""What replaces the released model: only what is better on the same confirm data by more than noise."""

import json
from pathlib import Path

import numpy as np
import pytest
from released_project import decided, demand, export, learned, make_released_project

from flows import released
from flows.promotion import promote

WORSE, BETTER = 40, 900


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared once; nobody changes it."""
    root = tmp_path_factory.mktemp("prepared")
    make_released_project(root)
    return root


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    """A project of its own, in which the worse model is released."""
    for name in ("dvc.yaml", "results"):
        (tmp_path / name).symlink_to(prepared / name)
    (tmp_path / "results").unlink()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "prepare").symlink_to(prepared / "results" / "prepare")
    (tmp_path / "results" / "train").mkdir()
    for name in ("architecture.json", "lineage.json"):
        (tmp_path / "results" / "train" / name).write_bytes((prepared / "results" / "train" / name).read_bytes())
    export(tmp_path, learned(tmp_path, WORSE))
    assert promote(tmp_path).promoted
    return tmp_path


def in_use(root: Path) -> released.Decision:
    """What is said of the model in use."""
    used = released.current(root)
    assert used is not None
    return decided(root, used)


def test_the_first_model_is_released_and_the_same_one_changes_nothing(root: Path) -> None:
    first = in_use(root)
    assert (first.reason, first.replaces) == ("nothing was released before", "")
    assert first.origin == {"search": "5" * 16, "trial": "3", "seed": "0", "data_digest": "d"}
    again = promote(root)
    assert again.sentence == f"model {first.sha256[:16]} stays released: it is the model that was exported"
    assert in_use(root) == first
    assert released.is_decided(root)


def test_a_better_model_replaces_it_and_says_by_how_much(root: Path) -> None:
    before = in_use(root)
    digest = export(root, learned(root, BETTER))
    assert not released.is_decided(root)
    decision = promote(root)
    assert decision == in_use(root) == released.read_last(root)
    assert (decision.promoted, decision.sha256, decision.replaces) == (True, digest, before.sha256)
    figures = decision.comparison
    assert figures["candidate"] - figures["released"] > 0.1
    assert figures["probability"] < 0.001
    assert "confirm images, better beyond noise: equal models would differ so with probability" in decision.reason
    assert [other.sha256 for other in released.candidates(root)] == [before.sha256]  # the one before is kept


@pytest.mark.parametrize(("shift", "words"), [(0.0005, "within noise"), (-1.0, "worse beyond noise")])
def test_another_one_is_kept_as_a_candidate_with_the_reason(root: Path, shift: float, words: str) -> None:
    export(root, learned(root, BETTER))
    promote(root)
    before = in_use(root)
    digest = export(root, learned(root, BETTER if shift > 0 else WORSE) + np.float32(shift if shift > 0 else 0))
    decision = promote(root)
    assert not decision.promoted
    assert words in decision.reason
    assert decision.sentence.startswith(f"model {digest[:16]} is kept as a candidate: accuracy ")
    assert in_use(root) == before
    assert decided(root, root / "released" / "models" / digest[:16]) == decision
    assert promote(root, anyway=True).promoted
    assert (in_use(root).sha256, in_use(root).reason) == (digest, "somebody decided so, without a comparison")


def test_a_released_model_that_misses_what_is_demanded_now_is_replaced_by_one_that_does_not(root: Path) -> None:
    digest = export(root, learned(root, WORSE) + np.float32(0.0005))
    demand(root, latency_ms="<= 0.2")  # the interval of the one in use passes it; the candidate has passed the gate
    decision = promote(root)
    assert decision.promoted
    assert decision.reason == "the released model misses what is demanded now (latency_ms 0.2 (0.19 to 0.21) breaks <= 0.2)"
    assert in_use(root).sha256 == digest


@pytest.mark.parametrize("metric", ["f1", "-loss"])
def test_other_metrics_are_compared_by_resampling_in_their_own_direction(root: Path, metric: str) -> None:
    demand(root, metric)
    export(root, learned(root, BETTER))
    decision = promote(root)
    assert decision.promoted
    assert decision.comparison["metric"] == metric.removeprefix("-")
    export(root, learned(root, WORSE) + np.float32(0.0005))
    assert "worse beyond noise" in promote(root).reason


def test_a_search_for_speed_is_compared_by_the_tasks_own_metric(root: Path) -> None:
    demand(root, "-latency_ms")
    export(root, learned(root, BETTER))
    assert promote(root).comparison["metric"] == "accuracy"


def test_what_cannot_be_compared_is_kept_and_named(root: Path) -> None:
    before = in_use(root)
    export(root, learned(root, BETTER), classes=["even", "odd"])
    assert promote(root).reason.startswith("its 2 classes are not the 10 of the released model; `nasflow promote --anyway`")
    export(root, learned(root, BETTER), inputs=[{"shape": ["batch", 28, 28, 1]}])
    assert promote(root).reason.startswith("it takes images of [28, 28, 1], the released model of [8, 8, 1]")
    export(root, learned(root, BETTER))
    (root / "results/train/lineage.json").write_text(json.dumps({"params": {"train": {"use_confirm": True}}}))
    assert "nothing is left to compare on" in promote(root).reason
    assert in_use(root) == before


def test_altered_files_and_missing_ones_are_refused(root: Path) -> None:
    (root / "results/export/model.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"results/export/model.onnx is not the file that its manifest names"):
        promote(root)
    export(root, learned(root, BETTER))
    (root / "released/current/model.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"is not the file that its manifest names"):
        promote(root)
    (root / "results/export/manifest.json").unlink()
    with pytest.raises(ValueError, match="holds no exported model: run `nasflow run` first"):
        promote(root)


def test_results_that_dvc_lock_contradicts_are_not_released(root: Path) -> None:
    (root / "dvc.yaml").unlink()
    (root / "dvc.yaml").write_text("stages: {export: {cmd: x, outs: [results/export/lineage.json]}}\n")
    export(root, learned(root, BETTER))
    with pytest.raises(ValueError, match=r"results/export cannot be released: export: dvc.lock has no entry"):
        promote(root)
