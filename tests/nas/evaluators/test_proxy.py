"""Zero-cost proxies as an evaluator: one score per architecture, whenever and wherever it is asked for."""

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, guarded
from nas.evaluators.proxy import Proxy, standing
from nas.evaluators.scratch import Scratch
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.spaces.base import SearchSpace
from nas.spaces.cell import EDGES, Cell
from nas.spaces.chain import Chain
from nas.strategies.random import Random
from nas.tasks.image_classification import ImageClassification
from nas.training.proxies import MEASURES
from nas.training.proxy_names import ProxyError
from nas.trial import Proposal, Trial
from nas.workers import Workers

CELL = Cell(widths=(4,), cells=1)
Make = Callable[..., Proxy]


@pytest.fixture
def make(digits: Dataset, digit_task: ImageClassification, tmp_path: Path) -> Make:
    """Evaluators, by default of one run: the same folder and seed."""

    def bound(space: SearchSpace = CELL, folder: str = "run", seed: int = 7, **settings: Any) -> Proxy:
        chosen = {"batch_size": 16, "reference": 6, "device": "cpu", **settings}
        return Proxy(**chosen).bind(Bench(space, digit_task, digits, tmp_path / folder, seed))

    return bound


def cell(*operations: str) -> Architecture:
    return Architecture({f"edge_{source}_{target}": name for (source, target), name in zip(EDGES, operations, strict=True)})


FULL = cell(*["nor_conv_3x3"] * 6)
THIN = cell("nor_conv_1x1", "none", "none", "none", "none", "skip_connect")
PLAIN = cell("nor_conv_1x1", "none", "avg_pool_3x3", "skip_connect", "none", "nor_conv_1x1")
EMPTY = cell(*["none"] * 6)
TWINS = (
    cell("nor_conv_3x3", "none", "none", "none", "skip_connect", "none"),
    cell("none", "none", "none", "nor_conv_3x3", "none", "none"),
)


def metrics(evaluator: Proxy, architecture: Architecture, number: int = 0) -> dict[str, float]:
    report = evaluator.evaluate(Trial(number, Proposal(architecture)))
    assert report.error is None
    return dict(report.metrics)


def test_a_report_holds_every_measure_the_size_and_the_rank(make: Make) -> None:
    evaluator = make(measures=tuple(MEASURES))
    found = metrics(evaluator, FULL)
    assert tuple(found) == (*MEASURES, "rank_sum")
    assert set(found) == set(evaluator.metric_names(("accuracy", "loss")))
    assert all(math.isfinite(value) and type(value) is float for value in found.values())
    assert {name: found[name] for name in ("parameters", "flops")} == evaluator.inspect(Proposal(FULL))
    assert evaluator.metric_names(("accuracy",)).count("parameters") == 1


def test_the_size_is_reported_though_it_is_not_measured(make: Make, digits: Dataset, digit_task: ImageClassification) -> None:
    evaluator = make()
    assert evaluator.metric_names(("accuracy",)) == ("naswot", "logsynflow", "parameters", "flops", "rank_sum")
    assert set(metrics(evaluator, FULL)) == set(evaluator.metric_names(("accuracy",)))
    trained = Scratch().bind(evaluator._bench)
    assert evaluator.inspect(Proposal(FULL)) == trained.inspect(Proposal(FULL))


def test_nothing_decides_a_score_but_the_architecture_and_the_run(make: Make) -> None:
    first = make(folder="first")
    before = [metrics(first, architecture) for architecture in (FULL, PLAIN, *TWINS)]
    torch.manual_seed(99)
    second = make(folder="second")
    after = [metrics(second, architecture, 5) for architecture in (*reversed(TWINS), PLAIN, FULL)]
    assert before == after[::-1]
    assert metrics(first, PLAIN) == before[1]
    assert make(seed=8).features(PLAIN)["logsynflow"] != before[1]["logsynflow"]  # which sees the weights and no image


def test_scoring_leaves_the_generator_alone(make: Make) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    metrics(make(), FULL)
    assert torch.equal(torch.rand(4), expected)


def test_a_kept_reference_is_read_and_not_made_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = metrics(make(), PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(Proxy, "_score_reference", lambda self: pytest.fail("the reference was scored again"))
        assert metrics(make(), PLAIN) == before
        assert metrics(pickle.loads(pickle.dumps(make())), PLAIN) == before  # noqa: S301 - dumped in the same line
    path = next((make()._bench.folder / "proxy").iterdir())
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "scores": {name: [1e9 + extra for extra in range(6)] for name in kept["scores"]}}))
    assert metrics(make(), PLAIN)["rank_sum"] < before["rank_sum"]


@pytest.mark.parametrize("change", [{"batch_size": 12}, {"seed": 8}, {"space": Cell(widths=(6,), cells=1)}, {"reference": 5}])
def test_a_reference_of_other_settings_is_not_taken(make: Make, change: dict[str, Any]) -> None:
    metrics(make(), PLAIN)
    assert metrics(make(**change), PLAIN) == metrics(make(folder="other", **change), PLAIN)
    assert len(list((make()._bench.folder / "proxy").iterdir())) == 2


def test_rank_sum_is_the_mean_share_of_the_reference_that_is_beaten(make: Make) -> None:
    evaluator = make(measures=("synflow", "parameters"))
    found = metrics(evaluator, PLAIN)
    scores = json.loads(next((evaluator._bench.folder / "proxy").iterdir()).read_text())["scores"]
    assert {name: len(values) for name, values in scores.items()} == {"synflow": 6, "parameters": 6}
    assert found["rank_sum"] == np.mean([standing(found[name], scores[name]) for name in ("synflow", "parameters")])
    assert metrics(evaluator, THIN)["rank_sum"] < found["rank_sum"] < metrics(evaluator, FULL)["rank_sum"] < 1


def test_an_unusable_measure_fails_the_trial_and_not_the_reference(make: Make) -> None:
    evaluator = make(reference=40)
    report = guarded(evaluator, Trial(0, Proposal(EMPTY)))
    assert report.error is not None
    assert "'naswot' is minus infinity" in report.error
    chain = make(Chain(widths=((4,), (6,))), folder="chain", measures=("naswot",), reference=12)
    drawn = chain._bench.space.choices(chain._bench.task).sample(np.random.default_rng(0))
    for stage in range(2):
        drawn = drawn.replace(f"stage_{stage}.activation", "silu")
    told = guarded(chain, Trial(0, Proposal(drawn))).error
    assert told is not None
    assert "has none" in told
    drawn = drawn.replace("stage_0.activation", "relu")
    assert 0 < metrics(chain, drawn)["rank_sum"] < 1
    kept = json.loads(next((chain._bench.folder / "proxy").iterdir()).read_text())["scores"]["naswot"]
    assert None in kept
    assert any(value is not None for value in kept)


def test_a_measure_that_never_works_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Proxy, network: object, name: str) -> float:
        raise ProxyError(f"proxy {name!r} is nan")

    monkeypatch.setattr(Proxy, "_measure", broken)
    report = guarded(make(), Trial(0, Proposal(FULL)))
    assert report.error == "ValueError: no architecture of the reference can be scored: proxy 'naswot' is nan"


def test_steps_and_parents_change_nothing_and_mixtures_are_refused(make: Make) -> None:
    evaluator = make()
    plain = metrics(evaluator, PLAIN)
    assert evaluator.evaluate(Trial(1, Proposal(PLAIN, steps=5, parent=0))).metrics == plain
    assert evaluator.provides == frozenset()
    mixed = Proposal(PLAIN, mixture={"edge_0_1": torch.ones(5)})
    assert evaluator.identity(mixed) is None
    with pytest.raises(ValueError, match="a mixture was proposed, but 'proxy' scores single architectures"):
        evaluator.evaluate(Trial(2, mixed))


def test_twins_have_one_identity(make: Make) -> None:
    evaluator = make()
    first, second = (evaluator.identity(Proposal(twin)) for twin in TWINS)
    assert first == second == evaluator.identity(Proposal(TWINS[0], steps=3))
    assert first != evaluator.identity(Proposal(FULL))


def test_a_finished_trial_is_reassessed_as_reported(make: Make) -> None:
    evaluator = make()
    report = evaluator.evaluate(Trial(0, Proposal(PLAIN)))
    assert evaluator.reassess(Trial(0, Proposal(PLAIN), report), "confirm") == report.metrics


def test_features_are_the_measures_and_logarithms_of_size(make: Make) -> None:
    evaluator = make()
    found = evaluator.features(dict(PLAIN))
    scored = metrics(make(), PLAIN)
    size = {f"log_{name}": math.log1p(scored[name]) for name in ("parameters", "flops")}
    assert found == {"naswot": scored["naswot"], "logsynflow": scored["logsynflow"], **size}
    assert not (make(folder="other")._bench.folder / "proxy").exists()


def test_a_feature_of_a_measure_that_says_nothing_is_zero_and_the_others_are_there(make: Make) -> None:
    found = make().features(EMPTY)
    assert found["naswot"] == 0
    assert list(found) == ["naswot", "logsynflow", "log_parameters", "log_flops"]
    chain = make(Chain(widths=((4,),), blocks=1), folder="chain", measures=("naswot", "logsynflow"))
    drawn = chain._bench.space.choices(chain._bench.task).sample(np.random.default_rng(0)).replace("stage_0.activation", "silu")
    assert chain.features(drawn)["naswot"] == 0 < chain.features(drawn)["logsynflow"]


def test_features_are_measured_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make()
    before = evaluator.features(PLAIN)
    monkeypatch.setattr(Proxy, "_network", lambda *_: pytest.fail("measured again"))
    assert evaluator.features(PLAIN) == before


@dataclass
class Repetitive:
    """Data of which half are the same."""

    dataset: Dataset

    def inputs(self, split: str) -> Any:
        assert split == "fit"
        return self.dataset.inputs(split)[np.arange(40) // 20 * np.arange(40)]

    def targets(self, split: str) -> Any:
        assert split == "fit"
        return self.dataset.targets(split)[:40]


def test_the_minibatch_is_of_fit_and_holds_nothing_twice(make: Make, digits: Dataset) -> None:
    evaluator = make(batch_size=16)
    bench = evaluator._bench
    evaluator.bind(Bench(bench.space, bench.task, Repetitive(digits), bench.folder, bench.seed))  # type: ignore[arg-type]
    drawn = evaluator._minibatch()
    assert len(drawn) == len({image.numpy().tobytes() for image in drawn.inputs}) == 16
    stored = {image.tobytes(): target for image, target in zip(digits.inputs("fit"), digits.targets("fit"), strict=True)}
    kept = make()._minibatch()
    assert [stored[image.numpy().tobytes()] for image in kept.inputs] == kept.targets.tolist()
    assert torch.equal(make()._minibatch().inputs, kept.inputs)
    assert not torch.equal(make(seed=8)._minibatch().inputs, kept.inputs)


def test_a_search_goes_by_rank(make: Make) -> None:
    evaluator = make()
    strategy = Random().bind(CELL.choices(evaluator._bench.task))
    trials = list(search(strategy, evaluator, Objective(metrics=("rank_sum",)), MemoryJournal(), trials=6, seed=0))
    assert all(
        trial.report is not None and trial.report.metrics.keys() == set(evaluator.metric_names(())) for trial in trials if trial.score
    )
    assert sum(trial.score is not None for trial in trials) >= 4


def test_workers_see_the_same_numbers(make: Make) -> None:
    expected = metrics(make(folder="here"), PLAIN)
    with Workers.around(make(folder="there"), 1) as pool:
        report = pool.submit(Trial(0, Proposal(PLAIN))).result()
    assert report.error is None
    assert report.metrics == expected


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"measures": ()}, "at least 1"),
        ({"measures": ("naswot", "naswot")}, "holds a measure twice"),
        ({"measures": ("accuracy",)}, "Input should be 'synflow', 'logsynflow'"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"reference": 1}, "greater than or equal to 2"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Proxy(**settings)


def test_standing_counts_who_is_beaten() -> None:
    reference = [1.0, 2.0, 2.0, None, 4.0]
    assert [standing(value, reference) for value in (1.0, 2.0, 4.0)] == pytest.approx([0.3, 0.6, 0.9])
    assert standing(3.0, reference) == pytest.approx(0.75)
    assert standing(7.0, reference) == pytest.approx(0.95)
    assert standing(-2.0, reference) == pytest.approx(0.25)
    assert standing(5.0, [5.0, 5.0]) == 0.5


@given(
    st.lists(st.none() | st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), min_size=1).filter(
        lambda values: values != [None] * len(values)
    ),
    st.lists(st.floats(-1e7, 1e7).map(lambda value: round(value, 3)), min_size=2, max_size=8, unique=True),
)
def test_standing_rises_with_the_value(reference: list[float | None], values: list[float]) -> None:
    standings = [standing(value, reference) for value in sorted(values)]
    assert all(0 <= place <= 1 for place in standings)
    assert all(low <= high for low, high in pairwise(standings))
