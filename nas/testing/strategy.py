"""What every strategy keeps to: proposals in the space, chance only from the generator, and a kill that changes nothing."""

import copy
import math
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from nas.architecture import Architecture, Choice, Choices
from nas.journal import FileJournal, MemoryJournal
from nas.objective import Objective
from nas.search import mismatch
from nas.strategies.base import Strategy
from nas.testing.contract import Contract, assert_sentence
from nas.testing.doubles import Reborn, Watched, check_architecture
from nas.testing.searches import CHOICES, Fake, first_difference, plain, run_search
from nas.trial import Proposal, Report, Score, Trial

_OBJECTIVE = Objective(constraints={"parameters": "<= 800"})
_TWO = Objective(metrics=("accuracy", "-parameters"), constraints={"parameters": "<= 900"})
_NEEDS = {"gradient", "curvature", "steps"}
_ODD = {
    "one architecture": Choices([Choice("a", ("x",))]),
    "two architectures": Choices([Choice("a", ("x", "y"))]),
    "3^40 architectures": Choices([Choice(f"choice_{index}", ("p", "q", "r")) for index in range(40)]),
}


class StrategyContract(Contract):
    """Subclass, name it Test…, write `make`; every search is on arithmetic and takes a fraction of a second."""

    trials: ClassVar[int] = 60
    """Evaluations of the longest search: enough to reach every phase of the strategy as `make` sets it."""
    choices: ClassVar[Choices] = CHOICES
    """The space of the searches, for a strategy that does not take every space."""
    draws: ClassVar[bool] = True
    """Whether chance has a part in what is proposed; False for a grid."""

    def make(self) -> Strategy:
        """Return a new strategy, not bound, with settings that let it reach every phase within `trials`."""
        strategy: Strategy = super().make()
        return strategy

    def bound(self) -> Strategy:
        """A new strategy, bound to the space."""
        return self.make().bind(self.choices)

    def length(self) -> int:
        """Evaluations of the longest search, as `trials` says."""
        return self.trials

    def history(self) -> list[Trial]:
        """What 30 evaluations found, and one that is still running."""
        found = run_search(self.bound(), Fake(), MemoryJournal(), 30)
        return [*found, Trial(len(found), Proposal(self.choices.sample(np.random.default_rng(0))))]

    @pytest.mark.parametrize("width", [1, 3])
    def test_proposals_lie_in_the_space_and_the_seed_decides_them(self, width: int) -> None:
        """With failures, rejections and results that are reused; alone, and three at a time."""

        def searched(strategy: Strategy) -> list[Trial]:
            return run_search(strategy, Fake(width=width, trouble=True), MemoryJournal(), self.length(), objective=_OBJECTIVE)

        found = searched(Watched.around(self.bound()))
        assert found, "a search found nothing: ask returned None for the first trial"
        random.seed(len(found))  # another state of the generators that no strategy may use
        np.random.seed(len(found))
        different = first_difference(searched(self.bound()), found)
        assert different is None, f"two searches of one seed differ, {different}: draw from the rng that ask is given, not from another"

    def test_only_the_generator_is_random(self) -> None:
        """One answer to one history and generator; others to others, where `draws`."""
        history = self.history()

        def answer(seed: int) -> list[dict[str, str]]:
            proposal = self.bound().ask(history, np.random.default_rng(seed))
            return plain([Trial(0, proposal)]) if proposal is not None else []

        first, second, *others = (answer(seed) for seed in (1, *range(1, 12)))
        assert first == second, f"one history and one generator gave {first} and {second}: draw from the rng alone"
        if self.draws:
            assert any(proposal != first for proposal in others), f"eleven generators gave one proposal, {first}: draw from the rng"

    def test_asking_changes_no_history(self) -> None:
        """The history belongs to the search."""
        history = self.history()
        before = copy.copy(history), plain(history)
        self.bound().ask(history, np.random.default_rng(0))
        same = len(history) == len(before[0]) and all(trial is known for trial, known in zip(history, before[0], strict=True))
        assert same, "ask changed the history, which belongs to the search: copy what is to be sorted or cut"
        assert plain(history) == before[1], "ask changed a trial of the history, which are records"

    def test_a_state_that_is_saved_and_loaded_after_every_answer_changes_nothing(self, tmp_path: Path) -> None:
        """Killed at every moment: only what `state_dict` returned, through a checkpoint, and the history go on."""

        def searched(strategy: Strategy) -> list[Trial]:
            return run_search(strategy, Fake(width=2, trouble=True), MemoryJournal(), 24, objective=_OBJECTIVE)

        different = first_difference(searched(Reborn.around(self.bound, tmp_path)), searched(self.bound()))
        assert different is None, (
            f"a search that is killed after every answer and one that is not differ, {different}: "
            "return from state_dict all that ask and tell remember, and take it up in load_state_dict"
        )

    def test_several_objectives_are_searched_and_a_kill_changes_nothing(self, tmp_path: Path) -> None:
        """Two objectives, with failures and rejections; and `several_objectives` says what it does with them."""

        def searched(strategy: Strategy) -> list[Trial]:
            return run_search(strategy, Fake(trouble=True), MemoryJournal(), 24, objective=_TWO)

        different = first_difference(searched(Reborn.around(self.bound, tmp_path)), searched(Watched.around(self.bound())))
        assert different is None, f"with two objectives, a search that is killed after every answer and one that is not differ, {different}"
        said = self.bound().several_objectives
        assert said.strip(" ."), f"several_objectives is {said!r}: say what it does, in words that follow its name"

    def test_what_is_said_to_be_random_depends_on_no_result(self) -> None:
        """The first `random_first` proposals are those of random search, whatever is found: the report compares with them."""

        def proposed(sign: int) -> list[Architecture]:
            strategy, history = self.bound(), list[Trial]()
            for number in range(min(strategy.random_first, 20)):
                proposal = strategy.ask(history, np.random.default_rng([0, number]))
                assert proposal is not None, (
                    f"proposal {number} of the {strategy.random_first} of random_first is None: count only what comes"
                )
                value = sign * float(number)
                history.append(Trial(number, proposal, Report({"accuracy": value}), Score(0.0, (value,))))
                strategy.tell(history[-1])
            return [trial.architecture for trial in history]

        assert proposed(1) == proposed(-1), "random_first counts proposals that depend on the scores of others: count those drawn at random"

    @pytest.mark.parametrize("width", [1, 2])
    def test_killed_and_resumed_equals_never_killed(self, tmp_path: Path, width: int) -> None:
        """With a journal on disk, killed again and again."""
        whole = run_search(self.bound(), Fake(width=width, trouble=True), MemoryJournal(), 40, objective=_OBJECTIVE)
        for stop in (*range(1, len(whole), 6), None):
            with FileJournal(tmp_path, fingerprint="contract") as journal:
                found = run_search(self.bound(), Fake(width=width, trouble=True), journal, 40, objective=_OBJECTIVE, stop=stop)
        different = first_difference(found, whole)
        assert different is None, f"a search that was killed and resumed from its journal differs from one that was not, {different}"

    def test_trials_that_failed_or_were_rejected_are_told_too(self) -> None:
        """Nothing may rest on a score, or on a score with values."""
        rng = np.random.default_rng(0)
        failed, rejected = (Report(error="RuntimeError: trouble"), None), (Report({"parameters": 9.0}), Score(-0.5, ()))
        infeasible = Report({"accuracy": 0.3, "parameters": 9.0}), Score(-0.5, (0.3,))
        for outcomes in ([failed], [rejected], [infeasible], [rejected, failed, infeasible]):
            strategy, history = Watched.around(self.bound()), list[Trial]()
            for number in range(9):
                proposal = strategy.ask(history, rng)
                if proposal is None:
                    break
                report, score = outcomes[number % len(outcomes)]
                history.append(Trial(number, proposal, report, score))
                told(strategy, history[-1])
            for architecture in strategy.conclude(history, 3, rng):
                check_architecture(self.choices.check, architecture, "after failures, conclude named")

    @pytest.mark.parametrize("space", _ODD)
    def test_an_odd_space_is_searched_or_refused_in_a_sentence(self, space: str) -> None:
        """Spaces of one, of two, and of more architectures than can be listed."""
        choices, evaluator, objective = _ODD[space], Fake(), Objective()
        try:
            run_search(Watched.around(self.make().bind(choices)), evaluator, MemoryJournal(), 12, objective=objective)
        except ValueError as error:
            assert_sentence(str(error), f"a space of {space}")

    def test_the_best_is_the_greatest_score_and_the_first_of_equals(self) -> None:
        """Feasible before infeasible; None when nothing was trained."""

        def trial(number: int, score: Score | None) -> Trial:
            return Trial(number, Proposal(Architecture({})), Report(), score)

        strategy = self.bound()
        scores = [Score(-0.1, (9.0,)), Score(0.0, (1.0,)), None, Score(0.0, (2.0,)), Score(-0.1, ()), Score(0.0, (2.0,))]
        history = [trial(number, score) for number, score in enumerate(scores)]
        best = strategy.best(history)
        assert best is history[3], f"best returned {best}: return the trial with the greatest score, of equals the first"
        for nothing in ([], [trial(0, None), trial(1, Score(-1.0, ()))]):
            assert strategy.best(nothing) is None, "best returned a trial although none has a score with values: return None"

    def test_what_is_named_in_the_end_lies_in_the_space_and_differs(self) -> None:
        """`conclude`: at most as many as asked for, and the same ones for the same generator."""
        history, strategy = self.history(), self.bound()
        named, again = (list(strategy.conclude(history, 4, np.random.default_rng(5))) for _ in range(2))
        for architecture in named:
            check_architecture(self.choices.check, architecture, "conclude named")
        assert len(named) <= 4, f"conclude was asked for at most 4 architectures and named {len(named)}"
        assert len(set(named)) == len(named), "conclude named an architecture twice: a look at it is paid for each time"
        assert named == again, "conclude named others when asked again with the same generator: draw from its rng alone"

    def test_what_is_required_can_be_provided(self) -> None:
        """A wrong pair of strategy and evaluator is refused only when the need has a known name."""
        strategy = self.bound()
        unknown = sorted(set(strategy.requires) - _NEEDS)
        assert not unknown, f"the strategy requires {unknown}, which no evaluator can provide: there are {sorted(_NEEDS)}"
        assert mismatch(strategy, Fake()) is None, "an evaluator that provides everything is refused"

    def test_curves_are_numbers_of_one_length(self) -> None:
        """`telemetry`, after a search."""
        strategy = self.bound()
        run_search(strategy, Fake(), MemoryJournal(), 12)
        curves: dict[str, Any] = dict(strategy.telemetry())
        lengths = {name: len(points) for name, points in curves.items()}
        assert len(set(lengths.values())) <= 1, f"curves of different lengths, {lengths}: give each one point per trial"
        for name, points in curves.items():
            assert all(math.isfinite(point) for point in points), f"the curve {name} holds what is no finite number"


def told(strategy: Strategy, trial: Trial) -> None:
    """Tell a trial, and call it a broken rule when that raises."""
    try:
        strategy.tell(trial)
    except (TypeError, AttributeError, LookupError, ValueError) as error:
        raise AssertionError(
            f"tell raised {type(error).__name__} ({error}) for a trial that is {trial.status}: one that failed has no score, "
            "one that was rejected has a score without values"
        ) from error
