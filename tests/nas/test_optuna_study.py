"""The study that follows a history, and proposals that were not seen before."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
from fake_search import CHOICES, Fake, run_search
from optuna.samplers import BaseSampler, TPESampler

from nas.architecture import Architecture, Choice, Choices
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.optuna_study import FollowedStudy, Record, records, unseen
from nas.strategies.random import Random
from nas.trial import Proposal, Report, Score, Trial

PAIR = Choices([Choice("a", ("x", "y")), Choice("b", ("x", "y"))])


def trial(number: int, options: str, score: Score | None, *, running: bool = False) -> Trial:
    made = Architecture(dict(zip("ab", options, strict=True)))
    return Trial(number, Proposal(made), None if running else Report(), score)


def searched(count: int) -> list[Trial]:
    """A history with failures and rejections."""
    objective = Objective(constraints={"parameters": "<= 800"})
    return run_search(Random().bind(CHOICES), Fake(trouble=True), MemoryJournal(), count, objective=objective)


def sampler(seed: int) -> BaseSampler:
    return TPESampler(n_startup_trials=0, seed=seed)


def test_records_leave_out_what_failed_or_runs() -> None:
    history = [trial(0, "xx", Score(0.0, (1.0, 5.0))), trial(1, "xy", None), trial(2, "yx", Score(0.0, (2.0, 4.0)))]
    history.append(trial(3, "yy", None, running=True))
    assert records(history) == [
        Record(history[0].architecture, (1.0, 5.0), None),
        Record(history[2].architecture, (2.0, 4.0), None),
    ]


def test_records_of_rejected_trials_are_the_worst_and_say_how_far_they_are() -> None:
    history = [trial(0, "xx", Score(-0.5, ())), trial(1, "xy", Score(0.0, (1.0, 5.0))), trial(2, "yx", Score(-0.1, (2.0, 4.0)))]
    assert [(record.values, record.excess) for record in records(history)] == [((1.0, 4.0), 0.5), ((1.0, 5.0), -1.0), ((2.0, 4.0), 0.1)]
    assert records(history[:1])[0].values == (0.0,)
    assert records([]) == []


def test_a_study_that_followed_asks_like_one_that_is_new() -> None:
    history, followed = searched(40), FollowedStudy(CHOICES)
    different = 0
    for count in range(2, len(history), 3):
        running = [Trial(number, history[number].proposal) for number in range(count, min(count + 3, len(history)))]
        seen = [*history[:count], *running]
        proposed = followed.ask(seen, sampler(count))
        assert proposed == FollowedStudy(CHOICES).ask(seen, sampler(count))
        different += proposed != FollowedStudy(CHOICES).ask(history[:count], sampler(count))
    assert different, "running trials are taken into account"
    for count in (30, 20, 10):
        proposals = [followed.ask(history[:count], sampler(seed)) for seed in range(4)]
        assert proposals == [FollowedStudy(CHOICES).ask(history[:count], sampler(seed)) for seed in range(4)], "after another history, too"


def test_a_study_asks_about_what_is_open_only() -> None:
    choices = Choices([Choice("a", ("x",)), Choice("b", ("x", "y"))])
    assert FollowedStudy(choices).ask([trial(0, "xx", Score(0.0, (1.0,)))], sampler(0))["a"] == "x"
    single = Choices([Choice("a", ("x",)), Choice("b", ("y",))])
    assert FollowedStudy(single).ask([trial(0, "xy", Score(0.0, (1.0,)))], sampler(0)) == Architecture({"a": "x", "b": "y"})


def test_optuna_says_nothing_and_keeps_the_level_that_it_had() -> None:
    said: list[logging.LogRecord] = []
    logger, handler = logging.getLogger("optuna"), logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    before = logger.level
    logger.addHandler(handler)
    try:
        logger.setLevel(logging.INFO)
        FollowedStudy(PAIR).ask([trial(0, "xx", Score(0.0, (1.0,)))], sampler(0))
        assert logger.level == logging.INFO
        assert said == []
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def canonical(architecture: Architecture) -> str:
    return json.dumps(sorted(architecture.items()))


def test_the_first_draw_that_is_new_is_proposed() -> None:
    draws = iter([Architecture({"a": "x", "b": "x"}), Architecture({"a": "y", "b": "x"}), Architecture({"a": "x", "b": "y"})])
    history = [trial(0, "xx", None), trial(1, "yx", None, running=True)]
    found = unseen(lambda: next(draws), history, PAIR, canonical, np.random.default_rng(0))
    assert found == Architecture({"a": "x", "b": "y"}), "what failed and what runs is known"


def test_known_functions_are_mutated_and_a_used_up_space_still_has_an_answer() -> None:
    history = [trial(number, options, Score(0.0, (1.0,))) for number, options in enumerate(("xx", "yx", "xy"))]
    stuck = Architecture({"a": "x", "b": "x"})
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert unseen(lambda: stuck, history, PAIR, canonical, rng) == Architecture({"a": "y", "b": "y"})
    used_up = [*history, trial(3, "yy", None)]
    PAIR.check(unseen(lambda: stuck, used_up, PAIR, canonical, np.random.default_rng(0)))
    same = unseen(lambda: stuck, history[:1], PAIR, lambda architecture: "all are one", np.random.default_rng(0))
    PAIR.check(same)


@pytest.mark.parametrize("name", ["tpe", "gp", "cma"])
def test_settings_are_checked_without_waiting_for_the_libraries(name: str) -> None:
    code = f"import sys, nas.strategies.{name}; print(*sorted({{'optuna', 'torch', 'cmaes', 'scipy'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == ""
