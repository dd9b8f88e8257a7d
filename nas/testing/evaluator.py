"""What every evaluator keeps to: equal trials give equal reports, a failure is a report, and what it remembers survives a kill."""

import math
import pickle
import random
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from nas.architecture import Architecture
from nas.evaluators.base import Bench, Evaluator
from nas.journal import FileJournal, MemoryJournal
from nas.objective import Objective
from nas.spaces.base import SearchSpace
from nas.strategies.random import Random
from nas.tasks.base import Task
from nas.tasks.image_classification import ImageClassification
from nas.testing.blocks import BROKEN, Blocks, Noted
from nas.testing.contract import Contract, assert_sentence, refusal, same_state, through_file
from nas.testing.searches import first_difference, run_search
from nas.training.loop import load_examples, outputs_of
from nas.trial import Proposal, Report, Trial

_PROVIDED = {"gradient", "curvature", "steps", "weights", "network"}


class EvaluatorContract(Contract):
    """Subclass, name it Test…, write `make` with few steps; candidates are small networks on 300 handwritten digits."""

    examples: ClassVar[int] = 300
    """Examples of fit, select and confirm together."""

    def make(self) -> Evaluator:
        """Return a new evaluator, not bound, with settings that take a fraction of a second for a trial."""
        evaluator: Evaluator = super().make()
        return evaluator

    def space(self) -> SearchSpace:
        """The space of the candidates: any of six architectures or more."""
        return Blocks()

    def task(self) -> Task:
        """The task, not bound, of the handwritten digits."""
        return ImageClassification()

    @pytest.fixture
    def data(self, tmp_path: Path) -> Noted:
        """The data of the test."""
        return Noted(tmp_path / "prepared", self.examples)

    def bench(self, data: Noted, run: str, space: SearchSpace | None = None) -> Bench:
        """What an evaluator works on; evaluators of one `run` share a folder, and all have one seed."""
        task = self.task().bind(data.description)
        return Bench(space or self.space(), task, data, data.folder.parent / run, 7)  # type: ignore[arg-type]

    def bound(self, data: Noted, run: str = "run") -> Evaluator:
        """A new evaluator, bound."""
        return self.make().bind(self.bench(data, run))

    def asked(self, evaluator: Evaluator, data: Noted) -> list[Trial]:
        """Four trials of different architectures; a mixture between them where gradients are provided, a look at the end where it looks."""
        bench = self.bench(data, "choices")
        choices, rng = bench.space.choices(bench.task), np.random.default_rng(0)
        found: dict[str, Architecture] = {}
        for _ in range(200):
            drawn = bench.space.repair(choices.sample(rng), rng)
            found.setdefault(bench.space.canonical(drawn, bench.task), drawn)
            if len(found) == 4:
                break
        proposals = [Proposal(architecture) for architecture in found.values()]
        if "gradient" in evaluator.provides:
            soft = {choice.name: torch.full((len(choice.options),), 1 / len(choice.options)) for choice in choices}
            proposals[1:1] = [Proposal(proposals[0].architecture, mixture=soft)]
        if evaluator.looks:
            proposals.append(Proposal(proposals[0].architecture, steps=0))
        return [Trial(number, proposal) for number, proposal in enumerate(proposals)]

    def test_the_same_trials_give_the_same_reports(self, data: Noted) -> None:
        """In another folder, with other states of the global generators, which are left as they were."""
        first = self.bound(data, "first")
        trials = self.asked(first, data)
        before = evaluated(first, trials)
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(99)
        states = _generators()
        after = evaluated(self.bound(data, "second"), trials)
        different = first_difference(before, after)
        assert different is None, f"the same trials were reported otherwise, {different}: draw from the bench's seed and the trial's number"
        assert _generators() == states, (
            "evaluate moved a global generator, from which others draw: use torch.random.fork_rng or one of its own"
        )

    def test_what_remembers_nothing_does_not_depend_on_what_came_before(self, data: Noted) -> None:
        """With commit_every 1, trials may come in any order, and go to several processes."""
        evaluator = self.bound(data, "forwards")
        if evaluator.commit_every > 1:
            return
        trials = [trial for trial in self.asked(evaluator, data) if trial.proposal.parent is None]
        rule = "commit_every is 1, which says that nothing is remembered: forget, or set it above 1 and return the memory from state_dict"
        before = evaluated(evaluator, trials)
        backwards = self.bound(data, "backwards")
        backwards.warm_up()
        different = first_difference(before, evaluated(backwards, trials[::-1])[::-1])
        assert different is None, f"in another order trials were reported otherwise, {different}; {rule}"
        copied = pickle.loads(pickle.dumps(self.bound(data, "copied")))  # noqa: S301 - dumped in the same line
        different = first_difference(before[-1:], evaluated(copied, trials[-1:]))
        assert different is None, f"a copy in another process reports otherwise, {different}; {rule}"

    def test_what_is_remembered_survives_a_kill(self, data: Noted) -> None:
        """After every trial a new evaluator goes on, from the state as a checkpoint kept it and the run's folder."""
        whole = self.bound(data, "whole")
        trials = self.asked(whole, data)
        before, after, evaluator = evaluated(whole, trials), list[Trial](), self.bound(data, "killed")
        for trial in trials:
            after += evaluated(evaluator, [trial])
            state = evaluator.state_dict()
            evaluator = self.bound(data, "killed")
            evaluator.load_state_dict(through_file(state, data.folder.parent) if state else {})
        different = first_difference(before, after)
        assert different is None, f"killed after every trial the reports differ, {different}: return from state_dict all that is remembered"
        assert same_state(evaluator.state_dict(), whole.state_dict()), "a state that was saved and loaded is another one"

    def test_a_search_that_is_killed_equals_one_that_is_not(self, data: Noted) -> None:
        """With random architectures and a journal on disk, to the looks at the end."""

        def searched(run: str, journal: FileJournal | MemoryJournal, stop: int | None = None) -> list[Trial]:
            evaluator, bench = self.bound(data, run), self.bench(data, run)
            strategy = Random().bind(bench.space.choices(bench.task))
            objective = Objective(metrics=(evaluator.metric_names(bench.task.metric_names)[0],))
            return run_search(strategy, evaluator, journal, 6, objective=objective, stop=stop)

        whole = searched("whole", MemoryJournal())
        for stop in (2, 5, None):
            with FileJournal(data.folder.parent / "journal", fingerprint="contract") as journal:
                found = searched("killed", journal, stop)
        different = first_difference(found, whole)
        assert different is None, f"a search that was killed and resumed differs from one that was not, {different}"

    def test_a_report_holds_the_metrics_that_are_promised(self, data: Noted) -> None:
        """Finite floats under the names of `metric_names`, from the splits `fit` and `select`."""
        evaluator = self.bound(data)
        promised = evaluator.metric_names(self.task().metric_names)
        for trial in evaluated(evaluator, self.asked(evaluator, data)):
            report = trial.report or Report(error="no report")
            assert report.error is None, f"a sound candidate failed: {report.error}"
            missing = [name for name in promised if name not in report.metrics]
            assert not missing, f"the report lacks {missing}, which metric_names promises: it has {sorted(report.metrics)}"
            for name, value in report.metrics.items():
                assert type(value) is float, f"the metric {name} is a {type(value).__name__}: report floats of Python"
                assert math.isfinite(value), f"the metric {name} is {value}: raise, and the reason is recorded"
            assert report.seconds >= 0, f"the report took {report.seconds} seconds"
            patience = evaluator.patience(trial)
            assert patience is None or patience > 0, f"patience is {patience}: return the seconds to wait, or None for ever"
        seen = data.read - {"fit", "select"}
        assert not seen, f"evaluate read {sorted(seen)}: candidates are trained on 'fit' and compared on 'select', and nothing else"

    def test_a_candidate_that_fails_becomes_a_report(self, data: Noted) -> None:
        """And the next one is evaluated as if nothing had been."""
        evaluator, untroubled = (self.make().bind(self.bench(data, run, Blocks(broken=True))) for run in ("failing", "sound"))
        sound = Trial(1, Proposal(Architecture({"first": "conv3", "second": "conv1"})))
        answer = evaluator.submit(Trial(0, Proposal(Architecture({"first": "conv3", "second": BROKEN})))).result(timeout=300)
        assert isinstance(answer, Report), f"submit promised a {type(answer).__name__}: its future always gives a Report"
        if answer.error is not None:
            assert answer.error.strip(), "a candidate failed without a reason"
        after = evaluated(evaluator, [sound])
        assert after[0].report is not None
        assert after[0].report.error is None, f"after a candidate that failed, a sound one failed too: {after[0].report.error}"
        if evaluator.commit_every == 1:
            different = first_difference(evaluated(untroubled, [sound]), after)
            assert different is None, f"a candidate that failed changed the report of the next, {different}"

    def test_what_is_known_without_training_needs_no_data(self, data: Noted) -> None:
        """`inspect` and the report agree, so that constraints decide the same before and after."""
        evaluator = self.bound(data)
        trials = self.asked(evaluator, data)
        known = [dict(evaluator.inspect(trial.proposal)) for trial in trials]
        assert not data.read, f"inspect read {sorted(data.read)}: return only what is known without training"
        assert known == [dict(self.bound(data).inspect(trial.proposal)) for trial in trials], "inspect gives other numbers when asked again"
        for trial, numbers in zip(evaluated(evaluator, trials), known, strict=True):
            metrics = trial.report.metrics if trial.report is not None else {}
            reported = {name: metrics[name] for name in numbers if name in metrics}
            agreed = {name: numbers[name] for name in reported}
            assert reported == agreed, f"inspect gives {agreed}, the report {reported}: what is known without training does not change"

    def test_a_key_stands_for_one_function(self, data: Noted) -> None:
        """`identity`: the same for the same proposal, and different for different functions."""
        evaluator, other, known = self.bound(data), self.bound(data, "other"), dict[str, Architecture]()
        for trial in self.asked(evaluator, data):
            key = evaluator.identity(trial.proposal)
            assert key == other.identity(trial.proposal), "identity gives one proposal two keys: make it of the proposal alone"
            if key is not None and trial.proposal.steps is None:
                twin = known.setdefault(key, trial.architecture)
                same = twin == trial.architecture
                assert same, f"identity gives {dict(twin)} and {dict(trial.architecture)} one key: the second is never evaluated"

    def test_a_finished_trial_is_judged_again(self, data: Noted) -> None:
        """`reassess`: on another split, repeatedly, after `forget`, without a change of the state; on `select` as reported."""
        evaluator = self.bound(data)
        finished = evaluated(evaluator, self.asked(evaluator, data))
        comparable = [trial for trial in finished if trial.proposal.mixture is None and evaluator.comparable(trial)]
        assert comparable, "no trial is comparable, so none can win; where none is, set looks above 0 and let looks be comparable"
        trial, state = comparable[0], through_file(evaluator.state_dict(), data.folder.parent)
        confirmed = dict(evaluator.reassess(trial, "confirm"))
        assert confirmed, "reassess gives no metrics, by which finalists are compared"
        assert confirmed == dict(evaluator.reassess(trial, "confirm")), "reassess gives other metrics when asked again"
        reported = trial.report.metrics if trial.report is not None else {}
        for name, value in evaluator.reassess(trial, "select").items():
            assert reported.get(name, value) == value, f"reassess gives {name} {value} on 'select', the report {reported[name]}"
        evaluator.forget(set())
        assert confirmed == dict(evaluator.reassess(trial, "confirm")), (
            "after forget, reassess gives other metrics: compute anew what is missing"
        )
        assert same_state(through_file(evaluator.state_dict(), data.folder.parent), state), "reassess changed the state: judge a copy"
        assert "test" not in data.read, "reassess of 'confirm' and 'select' read the test data, which are for the last number only"

    def test_a_look_changes_nothing(self, data: Noted) -> None:
        """Where trials only train shared weights, proposals of 0 steps compare and leave the weights alone."""
        evaluator = self.bound(data)
        trials = self.asked(evaluator, data)
        if not evaluator.looks:
            return
        evaluated(evaluator, trials)
        state, look = through_file(evaluator.state_dict(), data.folder.parent), Trial(99, Proposal(trials[0].architecture, steps=0))
        assert evaluator.comparable(look), "looks is above 0, but a proposal of 0 steps is not comparable: then nothing can win"
        first, second = evaluated(evaluator, [look]), evaluated(evaluator, [look])
        different = first_difference(first, second)
        assert different is None, f"two looks differ, {different}: a look changes nothing"
        assert same_state(through_file(evaluator.state_dict(), data.folder.parent), state), "a look changed the state: look with a copy"

    def test_what_is_provided_is_given(self, data: Noted) -> None:
        """A gradient for a mixture, or a refusal of mixtures in a sentence."""
        evaluator = self.bound(data)
        unknown = sorted(set(evaluator.provides) - _PROVIDED)
        assert not unknown, f"the evaluator provides {unknown}, which nobody requires: there are {sorted(_PROVIDED)}"
        bench = self.bench(data, "choices")
        choices = bench.space.choices(bench.task)
        mixture = {choice.name: torch.full((len(choice.options),), 1 / len(choice.options)) for choice in choices}
        trial = Trial(0, Proposal(choices.sample(np.random.default_rng(0)), mixture=mixture))
        if "gradient" not in evaluator.provides:
            reason = refusal(lambda: evaluator.evaluate(trial))
            assert reason is not None, "a mixture is evaluated, but 'gradient' is not provided: raise ValueError, or provide it"
            assert_sentence(reason, "a mixture")
            return
        gradient = evaluator.evaluate(trial).gradient
        assert gradient is not None, "'gradient' is provided, but the report of a mixture has none"
        found = {name: (tuple(slope.shape), bool(slope.isfinite().all())) for name, slope in gradient.items()}
        wanted = {choice.name: ((len(choice.options),), True) for choice in choices}
        assert found == wanted, f"the gradient is {found}: give finite numbers for every option of every choice, {wanted}"

    def test_the_network_of_a_trial_is_the_one_that_was_scored(self, data: Noted) -> None:
        """Where `network` is provided it has the metrics of the report; elsewhere it is refused in a sentence."""
        evaluator = self.bound(data)
        [trial] = evaluated(evaluator, self.asked(evaluator, data)[:1])
        if "network" not in evaluator.provides:
            reason = refusal(lambda: evaluator.network(trial))
            assert reason is not None, "a network is given, but 'network' is not provided: raise ValueError, or provide it"
            assert_sentence(reason, "a network")
            return
        assert trial.report is not None
        assert trial.report.error is None, trial.report.error
        task, split = evaluator._bench.task, data.targets("select")
        examples = load_examples([(data.inputs("select"), split)], torch.device("cpu"))
        found = task.metrics(outputs_of(evaluator.network(trial), examples, task), examples.targets)
        reported = {name: trial.report.metrics[name] for name in found}
        assert found == reported, f"the network scores {found}, but the trial reported {reported}: return the weights that were scored"


def evaluated(evaluator: Evaluator, trials: Iterable[Trial]) -> list[Trial]:
    """The trials with their reports, evaluated one after the other."""
    return [Trial(trial.number, trial.proposal, evaluator.submit(trial).result(timeout=300)) for trial in trials]


def _generators() -> tuple[list[int], str, int]:
    """The states of the global generators."""
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), hash(random.getstate())
