"""Failures: each has a kind, kinds are counted, and a search where too many fail stops at the same trial however often it is continued."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from fake_search import Fake, number_of, plain, run_search, strategy_of

from nas.architecture import Architecture
from nas.evaluators.base import Evaluator, failure, guarded
from nas.failures import ENOUGH, Failures, counts, words
from nas.journal import FileJournal, MemoryJournal, decode_trial, encode_trial
from nas.objective import Objective
from nas.search import SearchError, search
from nas.trial import LimitError, Proposal, Report, Score, Trial

CONSTRAINED = Objective(constraints={"parameters": "<= 800"})


def finished(number: int, kind: str | None, error: str = "why") -> Trial:
    """A trial that failed, was rejected, or, without a kind, is done."""
    score = Score(0.0, (0.5,)) if kind is None else Score(-1.0, ()) if kind == "constraint" else None
    return Trial(number, Proposal(Architecture({"a": "x"})), Report(error=None if kind is None else error, kind=kind), score)


def stopped_at(kinds: list[str | None], share: float) -> int | None:
    failures = Failures(share)
    for number, kind in enumerate(kinds):
        try:
            failures.add(finished(number, kind))
        except SearchError:
            return number
    return None


@pytest.mark.parametrize(
    ("kinds", "share", "stopped"),
    [
        (["time"] * 30, 0.5, ENOUGH - 1),
        (["time"] * 9, 0.0, None),
        ([None, "time"] * 15, 0.5, None),
        ([None, "time"] * 15 + ["time"], 0.5, 30),
        ([None] * 10 + ["time"] * 11, 0.5, 20),
        ([None] * 10 + ["time"] * 10, 0.5, None),
        (["time"] * 9 + [None] * 30, 0.5, 9),
        (["time"] * 50, 1.0, None),
        ([None] * 20 + ["time"], 0.0, 20),
        (["constraint"] * 50 + [None] * 4 + ["time"] * 5 + ["constraint"] * 5, 0.5, None),
        (["constraint"] * 50 + [None] * 4 + ["time"] * 5 + ["constraint"] * 5 + ["time"], 0.5, 64),
    ],
)
def test_a_search_stops_when_more_than_the_share_failed(kinds: list[str | None], share: float, stopped: int | None) -> None:
    assert stopped_at(kinds, share) == stopped


def test_the_sentence_names_the_commonest_kind_an_example_and_the_cure() -> None:
    failures = Failures(0.5)
    for number in range(4):
        failures.add(finished(number, None))
    for number, kind in enumerate(["memory", "time", "time", "KeyError", "time"], 4):
        failures.add(finished(number, kind, f"reason {number}"))
    with pytest.raises(SearchError) as caught:
        failures.add(finished(9, "memory", "reason 9"))
    assert str(caught.value) == (
        "6 of 10 trials failed, more than the share of 0.5 in search.max_failures: 3 time, 2 memory, 1 KeyError. "
        "The commonest is 'time' (3), for example trial 8: reason 8. "
        "To mend it, raise evaluator.limits.seconds, lower evaluator.steps, or search smaller networks; "
        "a greater search.max_failures goes on with this search as it is"
    )


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        ("memory", "limits.memory"),
        ("diverged", "learning_rate"),
        ("parameters", "limits.parameters"),
        ("flops", "limits.flops"),
        ("died", "ends its process"),
        ("KeyError", "correct the code or the setting that the reason names"),
        ("error", "correct the code or the setting that the reason names"),
    ],
)
def test_every_kind_has_a_cure(kind: str, cure: str) -> None:
    failures = Failures(0.5)
    for number in range(ENOUGH - 1):
        failures.add(finished(number, kind))
    with pytest.raises(SearchError, match=cure):
        failures.add(finished(ENOUGH, kind))


def test_failures_are_counted_by_kind_the_commonest_first() -> None:
    kinds = [None, "time", "memory", "constraint", "time", "died", ""]
    found = counts(finished(number, kind) for number, kind in enumerate(kinds))
    assert list(found.items()) == [("time", 2), ("died", 1), ("error", 1), ("memory", 1)]
    assert words(found) == "2 time, 1 died, 1 error, 1 memory"
    assert counts([finished(0, None)]) == {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LimitError("too slow", "time"), "time"),
        (SystemExit(3), "died"),
        (MemoryError(), "memory"),
        (KeyError("x"), "KeyError"),
        (LimitError("no kind"), "error"),
    ],
)
def test_what_is_raised_has_a_kind(error: BaseException, kind: str) -> None:
    class Raises(Evaluator):
        def evaluate(self, trial: Trial) -> Report:
            raise error

    report = guarded(Raises(), finished(0, None))
    assert report.kind == kind
    assert report.seconds > 0
    assert failure(error).error == report.error


def test_interrupts_are_not_failures() -> None:
    class Interrupted(Evaluator):
        def evaluate(self, trial: Trial) -> Report:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(Interrupted(), finished(0, None))


class Leaves(Fake):
    """Some architectures end the process while they are looked at."""

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        if number_of(proposal.architecture) % 20 == 5:
            raise SystemExit(1)
        return super().inspect(proposal)


def test_a_search_notes_every_kind() -> None:
    found = run_search(strategy_of("random"), Leaves(trouble=True), MemoryJournal(), 100, objective=CONSTRAINED)
    kinds = {(trial.status, trial.report.kind) for trial in found if trial.report}
    assert kinds == {("done", None), ("failed", "RuntimeError"), ("failed", "error"), ("failed", "died"), ("rejected", "constraint")}
    wrong = {number_of(trial.architecture) % 20 for trial in found if trial.report and trial.report.kind == "died"}
    assert wrong == {5}


def test_a_kind_comes_back_from_the_journal_and_old_ones_have_none() -> None:
    for kind in ("time", None):
        trial = finished(3, None)
        trial = Trial(3, trial.proposal, Report(error="why", kind=kind))
        record = json.loads(json.dumps(encode_trial(trial)))
        assert ("kind" in record) == (kind is not None)
        assert decode_trial(record) == trial


@pytest.mark.parametrize("width", [1, 3])
def test_a_search_that_stopped_stops_there_again_and_goes_on_with_a_greater_share(tmp_path: Path, width: int) -> None:
    """Some 15 of a hundred architectures fail here."""

    def run(share: float) -> tuple[list[Trial], bool]:
        failures, found = Failures(share), list[Trial]()
        with FileJournal(tmp_path, fingerprint="f") as journal:
            evaluator = Fake(width=width, trouble=True)
            for trial in search(strategy_of("random"), evaluator, CONSTRAINED, journal, trials=60, seed=3):
                found.append(trial)
                try:
                    failures.add(trial)
                except SearchError:
                    return found, True
        return found, False

    whole = run_search(strategy_of("random"), Fake(width=width, trouble=True), MemoryJournal(), 60, objective=CONSTRAINED)
    first, stopped = run(0.05)
    assert stopped
    assert ENOUGH <= len(first) < len(whole)
    second, stopped = run(0.05)
    assert stopped
    assert plain(second) == plain(first)
    third, stopped = run(1.0)
    assert not stopped
    assert plain(third) == plain(whole)
