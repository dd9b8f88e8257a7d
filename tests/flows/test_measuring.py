"""The search measures files: planted operators are found before training or lose, and what names a measurement is what determines it."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from at_once import Slot, work_here
from made_up_times import made_up, never_twice
from planted import Planted
from recorded_project import SEARCH, inside, make_recorded_project, nasflow, write_settings
from ruamel.yaml import YAML
from small_images import one_thread

from export import structures
from export.quantize import QuantizeError
from flows import measuring, settings
from nas import measured, preflight
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench
from nas.spaces.chain import Chain

__all__ = ["one_thread"]
PLANTED: dict[str, Any] = {
    **SEARCH,
    "preflight": True,
    "strategy": "random",
    "trials": 6,
    "space": {"name": "planted:Planted", "widths": [4, 8]},
}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials and measurements run in this process: starting others would take most of the time."""
    work_here(monkeypatch)


def searching(root: Path, space: dict[str, Any], **search: Any) -> None:
    """A project whose data are prepared."""
    make_recorded_project(root, search={**PLANTED, "space": {**PLANTED["space"], **space}, **search})
    with inside(root):
        assert nasflow("stage", "prepare").code == 0


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "results/search/trials.csv").open() as file:
        return list(csv.DictReader(file))


def read(root: Path, name: str) -> Any:
    return json.loads((root / "results/search" / name).read_text())


def test_operators_that_cannot_ship_are_named_before_any_trial(tmp_path: Path) -> None:
    """The real preflight, in its own process."""
    searching(tmp_path, {"ways": ["good", "wrong", "impossible"]})
    with inside(tmp_path):
        answer = nasflow("stage", "search")
    assert answer.code == 1
    assert len(answer.errors.splitlines()) == 1
    found = re.match(r"nasflow: search\.space holds what cannot ship, (.+?): (\w+): .+; leave it out of the space, mend it", answer.errors)
    assert found is not None, answer.errors
    assert sorted(found[1].split(", ")) == ["way_0 = impossible", "way_0 = wrong"]
    assert found[2] in ("ParityError", "ExportError")
    assert "trial" not in answer.output
    assert not list((tmp_path / ".nasflow").rglob("journal.jsonl"))
    assert not (tmp_path / "results" / "search").exists()


def test_an_operator_that_is_slow_in_onnxruntime_alone_loses_the_search(tmp_path: Path, here: None) -> None:
    """It costs no more FLOPs and trains as fast, but its file takes ten times as long; real clock, so the bound lies far from both."""
    objective = {"metrics": ["accuracy", "-latency_ms"], "constraints": {"latency_ms": "<= 0.07"}}
    searching(tmp_path, {"ways": ["good", "slow"]}, objective=objective, preflight=False)
    with inside(tmp_path):
        answer = nasflow("stage", "search")
    assert answer.code == 0, answer.errors
    found = rows(tmp_path)
    assert {row["way_0"]: row["status"] for row in found} == {"good": "done", "slow": "rejected"}
    slow = [row for row in found if row["way_0"] == "slow"]
    assert all(row["accuracy"] == "" and row["kind"] == "constraint" for row in slow), "it was never trained"
    assert len({row["flops"] for row in found}) == 2, "one for each width"
    best = read(tmp_path, "best.json")
    assert best["architecture"]["way_0"] == "good"
    assert {candidate["architecture"]["way_0"] for candidate in read(tmp_path, "candidates.json")} == {"good"}
    assert re.fullmatch(r"[0-9a-f]{64}", best["graph"])


def test_a_search_that_is_repeated_measures_nothing_and_finds_the_same(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill before the first commit: the run's folder is gone, the measurements are not."""
    monkeypatch.setattr(structures, "measure", never_twice())
    searching(tmp_path, {"ways": ["good"]}, measure=["latency_ms", "file_bytes"], trials=3, preflight=False)
    with inside(tmp_path):
        assert nasflow("stage", "search").code == 0
        first = (tmp_path / "results/search/trials.csv").read_bytes()
        assert b"latency_ms_low" in first
        for path in (tmp_path / ".nasflow").glob("search-*/*"):
            if path.is_file():
                path.unlink()
        monkeypatch.setattr(structures, "to_onnx", lambda *given, **named: pytest.fail("everything is known"))
        answer = nasflow("stage", "search")
        assert answer.code == 0, answer.errors
        assert (tmp_path / "results/search/trials.csv").read_bytes() == first


def test_finalists_are_quantized_and_judged_beside_floats(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "measure", made_up)
    search = {**SEARCH, "strategy": "random", "finalists": 2, "measure": ["latency_ms"]}
    make_recorded_project(tmp_path, search=search, export={"int8": "measure"})
    with inside(tmp_path):
        assert nasflow("stage", "prepare").code == 0
        answer = nasflow("stage", "search")
    assert answer.code == 0, answer.errors
    first, second, *rest = read(tmp_path, "candidates.json")
    for candidate in (first, second):
        int8 = candidate["int8"]
        assert int8["latency_ms_low"] < int8["latency_ms"] < int8["latency_ms_high"]
        assert int8["times"] == int8["latency_ms"] / candidate["metrics"]["select"]["latency_ms"]
        assert 0 <= int8["accuracy"] <= 1
        line = f"finalist: trial {candidate['trial']} as int8: accuracy {int8['accuracy']:.4f} on confirm, {int8['latency_ms']:.3g} ms"
        assert line in answer.output
    assert not any("int8" in candidate for candidate in rest)


def test_a_finalist_that_cannot_be_quantized_still_wins_and_says_why(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "measure", made_up)

    def refuse(*given: object) -> None:
        raise QuantizeError("no operator of it has an int8 form")

    monkeypatch.setattr(structures, "quantize", refuse)
    monkeypatch.setattr(measured, "quantize", refuse)
    make_recorded_project(
        tmp_path, search={**SEARCH, "strategy": "random", "trials": 1, "measure": ["latency_ms"]}, export={"int8": "measure"}
    )
    with inside(tmp_path):
        assert nasflow("stage", "prepare").code == 0
        answer = nasflow("stage", "search")
    assert answer.code == 0, answer.errors
    assert "no operator of it has an int8 form" in read(tmp_path, "candidates.json")[0]["int8"]["error"]


def test_what_passed_the_preflight_once_is_not_asked_again(tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "Slot", Slot)
    searching(tmp_path, {"ways": ["good"]}, trials=1)
    with inside(tmp_path):
        first = nasflow("stage", "search")
        assert first.code == 0, first.errors
        assert "preflight: 2 networks that hold every option of the space export as they are" in first.output
        assert "preflight" not in nasflow("stage", "search").output


@pytest.fixture
def named(tmp_path: Path) -> Callable[..., str]:
    """named(space, export section) -> the key of what is measured in that project."""
    make_recorded_project(tmp_path)
    with inside(tmp_path):
        assert nasflow("stage", "prepare").code == 0

    def key(space: Any = None, metadata: dict[str, str] | None = None, deps: dict[str, str] | None = None, **export: Any) -> str:
        write_settings(tmp_path, export={"exporter": "torchscript", **export})
        chosen = settings.read(tmp_path)
        dataset = Dataset.open(tmp_path / "results/prepare")
        task = chosen.prepare.task.bind(dataset.description)
        bench = Bench(space or chosen.search[-1].space, task, dataset, tmp_path, 0)
        return measuring._key(bench, chosen, {"deps": deps or {}}, metadata or {})

    return key


def test_whatever_determines_a_file_names_its_measurement(named: Callable[..., str]) -> None:
    usual = named()
    assert named() == usual
    code = {"nas/spaces": "1", "export/to_onnx.py": "1"}
    different = {
        "exporter": named(exporter="dynamo"),
        "space": named(Chain(kernels=(5,))),
        "class": named(Planted()),
        "metadata": named(metadata={"search": "0"}),
        "code": named(deps=code),
        "other code": named(deps=code | {"nas/spaces": "2"}),
        "code of networks": named(deps=code | {"nas/networks": "1"}),
    }
    assert len({usual, *different.values()}) == 1 + len(different)


def test_what_changes_no_file_keeps_its_measurement(named: Callable[..., str]) -> None:
    usual = named(deps={"nas/spaces": "1"})
    others = {"nas/strategies": "2", "nas/training": "2", "flows/settings.py": "2", "results/prepare/dataset.json": "2"}
    assert named(deps={"nas/spaces": "1", **others}, int8="never", tolerance=1e-3) == usual


def mistakes(root: Path, **sections: Any) -> str:
    write_settings(root, **sections)
    with pytest.raises(settings.SettingsError) as refused:
        settings.read(root)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize("evaluator", [{"name": "table", "path": "t.csv"}, "shared", "proxy"])
def test_a_trained_file_needs_an_evaluator_that_trains_it(tmp_path: Path, evaluator: Any) -> None:
    metrics = ["naswot"] if evaluator == "proxy" else ["accuracy"]
    objective = {"metrics": metrics, "constraints": {"int8_accuracy": ">= 0.5"}}
    search = {**SEARCH, "strategy": "random", "evaluator": evaluator, "objective": objective}
    name = evaluator if isinstance(evaluator, str) else evaluator["name"]
    words = f"search.objective: 'int8_accuracy' is scored on a trained file, but {name!r} trains no network alone: use 'scratch'"
    assert words in mistakes(tmp_path, search=search, export={"int8": "measure"})
    write_settings(tmp_path, search={**search, "objective": {"metrics": metrics, "constraints": {"latency_ms": "<= 1"}}})
    settings.read(tmp_path)


def test_a_metric_of_no_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    assert "search.measure: no metric of files is named 'latency'; did you mean 'latency_ms'?" in mistakes(
        tmp_path, search={**SEARCH, "measure": ["latency"]}
    )


def test_a_constraint_that_the_gate_could_not_measure_is_refused(tmp_path: Path) -> None:
    search = {**SEARCH, "objective": {"metrics": ["accuracy"], "constraints": {"int8_latency_ms": "<= 1"}}}
    words = "export.int8 is never, but search.objective.constraints bounds 'int8_latency_ms': set it to measure, or drop the constraint"
    assert words in mistakes(tmp_path, search=search, export={"int8": "never"})


def test_a_provider_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    make_recorded_project(tmp_path, search={**SEARCH, "measure": ["latency_ms"], "preflight": False}, target={"provider": "AbacusProvider"})
    with inside(tmp_path):
        assert nasflow("stage", "prepare").code == 0
        answer = nasflow("stage", "search")
    assert answer.code == 1
    assert "target.provider: " in answer.errors
    assert "AbacusProvider" in answer.errors
    assert not list((tmp_path / ".nasflow").rglob("journal.jsonl"))


def test_the_stages_that_measure_depend_on_the_target() -> None:
    document = YAML(typ="safe").load((Path(__file__).parents[2] / "dvc.yaml").read_text())
    for name in ("search", "export"):
        assert "target" in document["stages"][name]["params"]
