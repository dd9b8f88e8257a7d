"""Weight sharing: gradients are those of the loss, looks change nothing, options that do not run stay, and a killed search continues."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_search import plain, run_search
from pydantic import ValidationError
from shared_runs import CELL, CONVS, RECIPE, SMALL, Make, equal, path_of, run, soft, tensors
from torch import Tensor

from nas.data.dataset import Dataset
from nas.evaluators.base import guarded
from nas.evaluators.shared import Shared
from nas.journal import FileJournal, MemoryJournal
from nas.load import load
from nas.networks.supernet import Mixed
from nas.spaces.cell import OPERATIONS
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Limits
from nas.training.recipe import Recipe
from nas.training.shared_weights import Judged
from nas.trial import Proposal, Trial


def test_the_gradient_is_that_of_the_loss(make: Make) -> None:
    """Central differences of the loss that a judgement reports, on the same batch, along directions that float32 resolves."""
    weights, mixture = make()._shared(), soft()

    def judged(at: dict[str, Tensor], graded: bool) -> Judged:
        weights.judgements = 3
        return weights.judged(at, torch.zeros(()), graded=graded, unrolled=False)

    found = judged(mixture, True).gradient
    assert found is not None
    step = 0.003
    for seed in range(3):
        direction = {name: part.sign() if seed == 0 else soft(seed)[name] - 0.2 for name, part in found.items()}
        ends = [judged({name: mixture[name] + sign * step * direction[name] for name in mixture}, False).loss for sign in (1, -1)]
        expected = sum(float((found[name] * direction[name]).sum()) for name in mixture)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=0.05, abs=2e-3)


def test_a_mixture_trains_weights_and_reports_a_gradient_in_float32(make: Make) -> None:
    evaluator = make()
    before = tensors(evaluator) if evaluator.state_dict() else None
    assert before is None, "nothing is built before it is needed"
    report = evaluator.evaluate(Trial(0, Proposal(CONVS, mixture=soft())))
    assert report.gradient is not None
    assert {name: (part.shape, part.dtype) for name, part in report.gradient.items()} == dict.fromkeys(soft(), ((5,), torch.float32))
    assert not any(part.requires_grad for part in report.gradient.values())
    assert set(report.metrics) == set(evaluator.metric_names(ImageClassification.metric_names))
    assert {type(value) for value in report.metrics.values()} == {float}
    after = tensors(evaluator)
    run(evaluator, Proposal(CONVS, mixture=soft(), steps=0))
    assert equal(tensors(evaluator), after), "no steps, no training: the architecture step leaves weights and statistics alone"


def test_second_order_differs_and_leaves_the_weights_as_first_order_does(make: Make) -> None:
    first, second = make(), make(unrolled=True)
    reports = [run(evaluator, *[Proposal(CONVS, mixture=soft(seed)) for seed in range(2)]) for evaluator in (first, second)]
    assert equal(tensors(first), tensors(second))
    one, two = (torch.cat(list((found[-1].gradient or {}).values())) for found in reports)
    assert one.isfinite().all()
    assert 0 < float((one - two).norm()) < float(one.norm())
    assert reports[0][-1].metrics == reports[1][-1].metrics


def test_what_does_not_run_is_not_moved(make: Make) -> None:
    """Neither by momentum nor by weight decay, though it was trained before; one edge also never was, which fused SGD would not take."""
    evaluator = make()
    run(evaluator, *[Proposal(path_of(*["nor_conv_3x3"] * 5, "none"))] * 3)
    before = tensors(evaluator)
    run(evaluator, *[Proposal(path_of("nor_conv_1x1", *["nor_conv_3x3"] * 5))] * 2)
    after = tensors(evaluator)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    options = places(evaluator)
    assert not any(name.startswith(options["edge_0_1", "nor_conv_3x3"]) for name in moved)
    assert any(name.startswith(options["edge_0_1", "nor_conv_1x1"]) for name in moved)
    assert any(name.startswith(options["edge_2_3", "nor_conv_3x3"]) for name in moved)
    idle = [name for name in before if name.startswith("network.") and "weight" in name and name not in moved]
    assert len(idle) >= 2 * (2 * 6 - 6) - 2, "every other convolution and normalisation"


def places(evaluator: Shared) -> dict[tuple[str, str], str]:
    """The prefix of an option's tensors."""
    modules = evaluator._shared().network.named_modules()
    found = [(path, module) for path, module in modules if isinstance(module, Mixed)]
    return {(module.name, OPERATIONS[index]): f"{path}.options.{index}." for path, module in found for index in range(5)}


def test_a_look_changes_nothing_and_repeats(make: Make) -> None:
    evaluator, alone = make(), make()
    run(evaluator, *[Proposal(CONVS, mixture=soft())] * 3)
    run(alone, *[Proposal(CONVS, mixture=soft())] * 3)
    before = tensors(evaluator)
    looks = run(evaluator, Proposal(SMALL, steps=0), Proposal(CONVS, steps=0), Proposal(SMALL, steps=0))
    assert looks[0].metrics == looks[2].metrics != looks[1].metrics
    assert looks[0].gradient is None
    assert equal(tensors(evaluator), before)
    assert evaluator.state_dict()["judgements"] == 3
    next_of = [run(one, Proposal(CONVS, mixture=soft(1)))[0] for one in (evaluator, alone)]
    assert plain([Trial(0, Proposal(CONVS), report) for report in next_of[:1]]) == plain([Trial(0, Proposal(CONVS), next_of[1])])


def test_statistics_are_recomputed_for_the_path_that_is_looked_at(make: Make) -> None:
    with_shared, fitted = make(recalibration=0), make(recalibration=8)
    for evaluator in (with_shared, fitted):
        run(evaluator, *[Proposal(CONVS, mixture=soft(seed)) for seed in range(6)])
    losses = [run(evaluator, Proposal(SMALL, steps=0))[0].metrics["loss"] for evaluator in (with_shared, fitted)]
    assert losses[1] != losses[0], "shared statistics are of mixtures and fit no path"
    batch = fitted._shared().fit.sample(1)[0]
    with fitted._shared().alone(fitted._path(SMALL), 0, 1) as network, torch.no_grad():
        prepared = fitted._shared().prepare(batch)
        torch.testing.assert_close(network.eval()(prepared), network.train()(prepared), rtol=0.05, atol=0.05)
    loaded = make(recalibration=8)
    loaded.load_state_dict(fitted.state_dict())
    assert loaded.reassess(Trial(0, Proposal(SMALL)), "select")["loss"] == losses[1]
    assert loaded.reassess(Trial(0, Proposal(SMALL)), "confirm")["loss"] != losses[1]


def test_a_path_is_tuned_where_weights_were_trained_under_mixtures(make: Make) -> None:
    evaluator, other = make(tuning=3), make(tuning=3)
    run(evaluator, *[Proposal(CONVS, mixture=soft())] * 3)
    before = tensors(evaluator)
    tuned = run(evaluator, Proposal(SMALL, steps=0), Proposal(CONVS, steps=0), Proposal(SMALL, steps=0))
    assert tuned[0].metrics == tuned[2].metrics
    assert equal(tensors(evaluator), before)
    plain_one = make(tuning=0)
    plain_one.load_state_dict(evaluator.state_dict())
    assert plain_one.reassess(Trial(0, Proposal(SMALL)), "select")["loss"] != tuned[0].metrics["loss"]
    run(other, Proposal(SMALL), Proposal(CONVS, mixture=other._path(CONVS)), Proposal(CONVS, mixture=soft(), steps=0))
    assert not other._shared().soft, "one option at a time, and a mixture that trained nothing"


def test_a_path_is_rewarded_on_one_batch_of_the_other_part(make: Make, digits: Dataset) -> None:
    evaluator = make(architecture_share=0.25)
    weights = evaluator._shared()
    parts = [set(stream._part.tolist()) for stream in (weights.fit, weights.judge)]
    count = digits.description.counts["fit"]
    assert not parts[0] & parts[1]
    assert (len(parts[0] | parts[1]), len(parts[1])) == (count, round(0.25 * count))
    seen: list[Tensor] = []
    judge, fit = weights.judge.at, weights.fit.at
    weights.judge.at = lambda number: (seen.append(torch.tensor([0, number])), judge(number))[1]  # type: ignore[method-assign,func-returns-value]
    weights.fit.at = lambda number: (seen.append(torch.tensor([1, number])), fit(number))[1]  # type: ignore[method-assign,func-returns-value]
    report = run(evaluator, Proposal(SMALL, steps=2), Proposal(SMALL))[1]
    assert [tuple(pair.tolist()) for pair in seen] == [(1, 0), (1, 1), (0, 0), (1, 2), (0, 1)]
    assert report.metrics["accuracy"] * 32 == pytest.approx(round(report.metrics["accuracy"] * 32)), "32 examples"
    assert report.gradient is None


@pytest.mark.parametrize(("strategy", "stop"), [("darts", 2), ("darts", 6), ("gdas", 6), ("drnas", 7), ("random", 6)])
def test_killed_and_resumed_is_the_same_search(
    strategy: str, stop: int, make: Make, digit_task: ImageClassification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shared, "commit_every", 3)
    settings = {"warmup": 2} if strategy == "darts" else {}

    def searched(journal: Any, end: int | None = None) -> tuple[list[Trial], Shared]:
        evaluator = make(curvature_every=3, curvature_products=2, last_looks=2)
        chosen = load("strategies", strategy)(**settings).bind(CELL.choices(digit_task), canonical=evaluator.canonical)
        return run_search(chosen, evaluator, journal, 7, stop=end), evaluator

    whole, expected = searched(MemoryJournal())
    with FileJournal(tmp_path / "journal", fingerprint="x") as journal:
        searched(journal, stop)
    with FileJournal(tmp_path / "journal", fingerprint="x") as journal:
        found, evaluator = searched(journal)
    assert plain(found) == plain(whole)
    assert equal(tensors(evaluator), tensors(expected))
    assert [evaluator.comparable(trial) for trial in found] == [False] * 7 + [True] * (len(found) - 7)
    assert evaluator.reassess(found[-1], "confirm") == expected.reassess(whole[-1], "confirm")
    with FileJournal(tmp_path / "journal", fingerprint="x") as journal:
        again, finished = searched(journal)
    assert plain(again) == plain(whole), "a complete search is only read"
    assert finished.reassess(again[-1], "confirm") == expected.reassess(whole[-1], "confirm")


@pytest.mark.parametrize("mixture", [None, soft()])
def test_a_trial_that_fails_ruins_nothing(mixture: dict[str, Tensor] | None, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make()
    run(evaluator, Proposal(CONVS))
    before, weights = tensors(evaluator), evaluator._shared()
    prepare = weights.prepare.forward
    monkeypatch.setattr(weights.prepare, "forward", lambda images: prepare(images) * math.nan)
    report = guarded(evaluator, Trial(1, Proposal(CONVS, steps=2, mixture=mixture)))
    assert (report.error or "").startswith("LimitError: loss is nan at step 3: training diverged")
    assert equal(tensors(evaluator), before)
    assert (weights.step, weights.judgements) == (3, 2), "the next trial meets other batches"
    monkeypatch.undo()
    assert run(evaluator, Proposal(CONVS))[0].error is None


def test_weights_that_diverge_in_the_last_step_are_put_back(make: Make) -> None:
    evaluator = make(recipe=Recipe(batch_size=32, learning_rate=1e38, warmup=0.0), floor=1.0)
    assert "training diverged" in (guarded(evaluator, Trial(0, Proposal(CONVS))).error or "")
    assert all(tensor.isfinite().all() for tensor in tensors(evaluator).values())
    slow = make(limits=Limits(seconds=1e-9))
    assert (guarded(slow, Trial(0, Proposal(CONVS))).error or "").startswith("LimitError: time of")
    assert not any(tensor.any() for name, tensor in slow.state_dict()["optimizer"].items())


def test_the_learning_rate_falls_over_the_schedule_and_stays_at_the_floor(make: Make) -> None:
    schedule = make(floor=0.1, recipe=Recipe(learning_rate=0.5, warmup=0.0))._shared().schedule
    rates = [schedule.rate(step) for step in range(60)]
    assert rates[0] == 0.5
    assert rates == sorted(rates, reverse=True)
    assert set(rates[38:]) == {0.05}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_state_is_copied_into_another_evaluator(optimizer: str, make: Make) -> None:
    recipe = RECIPE.model_copy(update={"optimizer": optimizer, "learning_rate": 0.01})
    first, second = make(recipe=recipe), make(recipe=recipe, seed=8)
    run(first, Proposal(SMALL), Proposal(CONVS, mixture=soft()))
    second.load_state_dict(first.state_dict())
    before = tensors(first)
    assert equal(tensors(second), before)
    run(second, Proposal(CONVS))
    assert equal(tensors(first), before)
    assert not equal(tensors(second), before)
    make().load_state_dict({})


def test_frozen_weights_only_look(make: Make) -> None:
    evaluator = make(steps=0)
    assert evaluator.evaluate(Trial(0, Proposal(SMALL))).metrics == evaluator.evaluate(Trial(9, Proposal(SMALL))).metrics
    assert evaluator.identity(Proposal(SMALL)) == evaluator.canonical(SMALL)
    assert evaluator.comparable(Trial(0, Proposal(SMALL)))
    assert evaluator.looks == 0
    with pytest.raises(ValueError, match="3 steps were proposed, but steps is 0, which freezes the weights"):
        evaluator.evaluate(Trial(0, Proposal(SMALL, steps=3)))
    training = make(last_looks=4)
    assert training.looks == 4
    assert [training.identity(Proposal(SMALL, steps=steps)) for steps in (None, 0, 2)] == [None] * 3
    assert [training.comparable(Trial(0, Proposal(SMALL, steps=steps))) for steps in (None, 0, 2)] == [False, True, False]
    assert not training.comparable(Trial(0, Proposal(SMALL, steps=0, mixture=soft())))


def test_curvature_is_measured_now_and_then(make: Make) -> None:
    evaluator = make(curvature_every=2, curvature_products=2)
    reports = run(evaluator, *[Proposal(CONVS, mixture=soft())] * 4)
    assert ["curvature" in report.metrics for report in reports] == [False, True, False, True]
    assert all(math.isfinite(report.metrics["curvature"]) for report in reports[1::2])
    assert evaluator.provides == {"gradient", "curvature"}
    assert make().provides == {"gradient"}
    plain_one = make()
    run(plain_one, *[Proposal(CONVS, mixture=soft())] * 4)
    assert equal(tensors(evaluator), tensors(plain_one)), "measuring changes nothing"


def test_costs_are_those_of_the_network_built_alone(make: Make, digit_task: ImageClassification) -> None:
    evaluator = make()
    expected = sum(weight.numel() for weight in CELL.build(SMALL, digit_task).parameters())
    for proposal in (Proposal(SMALL), Proposal(SMALL, mixture=soft()), Proposal(SMALL, steps=0)):
        assert evaluator.inspect(proposal)["parameters"] == expected
    assert evaluator._weights is None


def test_what_cannot_be_shared_is_refused_before_any_work(make: Make) -> None:
    with pytest.raises(ValueError, match=r"choice 'stage_0\.width' picks a number, which a supernet cannot mix"):
        make(Chain())
    with pytest.raises(ValueError, match=r"make parts of 98. and 1: each needs two or more"):
        make(architecture_share=0.001)
    with pytest.raises(ValidationError, match=r"ema is 0\.9, but shared weights are judged as they are: set it to 0"):
        make(recipe=Recipe(ema=0.9))
    evaluator = make()
    with pytest.raises(ValueError, match="edge_0_1"):
        evaluator.evaluate(Trial(0, Proposal(CONVS, mixture={**soft(), "edge_0_1": torch.ones(3)})))
    with pytest.raises(ValueError, match="edge_0_1 is 'conv9'"):
        evaluator.evaluate(Trial(0, Proposal(CONVS.replace("edge_0_1", "conv9"))))
    assert all(info.description for info in Shared.model_fields.values())


def test_the_global_generator_is_neither_used_nor_moved(make: Make) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        evaluator = make(unrolled=True, curvature_every=1)
        results.append(
            [report.metrics for report in run(evaluator, Proposal(CONVS, mixture=soft()), Proposal(SMALL), Proposal(SMALL, steps=0))]
        )
        assert torch.equal(torch.get_rng_state(), before)
    assert results[0] == results[1]
