"""Weights that are needed and were removed are trained again, to the same bytes."""

import pytest
from checkpointed import CELL, TWINS, Make, architecture, content, make, read_again

from nas import checkpoint
from nas.evaluators.scratch import Scratch
from nas.training.limits import Limits
from nas.trial import Proposal, Report, Trial

__all__ = ["make"]


def test_the_weights_of_a_chain_are_trained_again(make: Make) -> None:
    """Each trial goes on from the one before: a promotion, a promotion of it, and a child of another architecture."""
    evaluator, one = make(), architecture(1)
    proposals = [Proposal(one, 2), Proposal(one, 4, 0), Proposal(one, None, 1), Proposal(architecture(2), 3, 2)]
    trials = [Trial(number, proposal, evaluator.evaluate(Trial(number, proposal))) for number, proposal in enumerate(proposals)]
    before = {trial.number: (content(evaluator, trial.number), evaluator.reassess(trial, "confirm")) for trial in trials}
    for trial in reversed(trials):
        evaluator.forget(set())
        assert not list(evaluator._weights(0).parent.glob("*.pt"))
        assert make().reassess(read_again(trial), "confirm") == before[trial.number][1]
        assert content(evaluator, trial.number) == before[trial.number][0]


def test_a_search_may_go_on_from_weights_that_were_removed(make: Make) -> None:
    evaluator, one = make(), architecture(1)
    expected = [evaluator.evaluate(Trial(number, Proposal(one, 2 + number, number - 1 if number else None))) for number in range(3)]
    evaluator.forget({0})
    assert dict(make().evaluate(Trial(2, Proposal(one, 4, 1))).metrics) == dict(expected[2].metrics)


def test_restoring_is_not_limited_but_the_trial_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, one, used = make(limits=Limits(seconds=50, memory=4000)), architecture(1), list[tuple[int, Limits]]()
    evaluator.evaluate(Trial(0, Proposal(one, 2)))
    evaluator.forget(set())
    train = Scratch._train

    def noting(self: Scratch, trial: Trial, limits: Limits) -> tuple[dict[str, float], float]:
        used.append((trial.number, limits))
        return train(self, trial, limits)

    monkeypatch.setattr(Scratch, "_train", noting)
    evaluator.evaluate(Trial(1, Proposal(one, 4, 0)))
    assert [(number, limits.seconds, limits.memory) for number, limits in used] == [(0, None, None), (1, 50, 4000)]


def test_a_reused_trial_is_restored_as_its_twin_was_trained(make: Make) -> None:
    evaluator = make(space=CELL)
    report = evaluator.evaluate(Trial(0, Proposal(TWINS[0])))
    reused = Trial(4, Proposal(TWINS[1]), Report(report.metrics, reused=0))
    before = evaluator.reassess(reused, "confirm")
    evaluator.forget(set())
    assert evaluator.reassess(reused, "confirm") == before
    assert checkpoint.load(evaluator._weights(0))["architecture"] == dict(TWINS[0])


def test_where_nothing_says_how_a_parent_was_trained_the_reason_is_clear(make: Make) -> None:
    evaluator, one = make(), architecture()
    evaluator.evaluate(Trial(0, Proposal(one, 2)))
    evaluator.forget(set())
    origin = evaluator._origin(0)
    origin.write_text("[]")
    with pytest.raises(ValueError, match=r"trial-0\.json is damaged: remove the run's folder, and everything is computed again"):
        evaluator.evaluate(Trial(1, Proposal(one, parent=0)))
    origin.unlink()
    with pytest.raises(FileNotFoundError, match=r"trial-0\.pt is missing: trial 0 failed, or its weights were removed"):
        evaluator.evaluate(Trial(1, Proposal(one, parent=0)))
