"""The one loop: ask, evaluate, score, tell, remember."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from nas.components import component_name
from nas.evaluators.base import BLAMELESS, Evaluator, failure
from nas.journal import Journal
from nas.objective import Objective
from nas.strategies.base import Strategy
from nas.trial import Proposal, Report, Trial


class SearchError(RuntimeError):
    """A search that cannot go on; the message says why and what to change."""


def search(
    strategy: Strategy, evaluator: Evaluator, objective: Objective, journal: Journal, *, trials: int, seed: int = 0
) -> Iterator[Trial]:
    """Run a search and yield every finished trial in order, those of an earlier process first.

    `trials` counts evaluations; architectures that are rejected before training come on top. With k slots, trial n
    is asked when trial n - k is told, so what is found depends on (seed, k) and never on timing. Ends early when the
    strategy has nothing left to propose. Where trials only train shared weights, the architectures that the strategy names at the
    end are looked at, `evaluator.looks` of them at most; such a search has to be continued with the same `trials`.

    Raises SearchError when nearly everything is rejected, ValueError when the evaluator does not provide what the strategy requires.
    """
    if wrong := mismatch(strategy, evaluator):
        raise ValueError(wrong)
    loop = _Loop(strategy, evaluator, objective, journal, seed)
    yield from loop.earlier(trials)
    while not loop.finished(trials):
        yield loop.step(trials)
    loop.commit()
    if evaluator.looks:
        yield from loop.conclude()


_CURES = {
    "gradient": "learns from the gradient with respect to a mixture, which {evaluator} does not give: use the evaluator 'shared'",
    "curvature": "watches the curvature, which {evaluator} does not report: set its curvature_every to 20, or the guard to decay",
    "steps": "compares few steps with many, but steps change nothing for {evaluator}: use the evaluator 'scratch', or another strategy",
}


def mismatch(strategy: Strategy, evaluator: Evaluator) -> str | None:
    """Return the sentence that says why this strategy cannot work with this evaluator, and the cure; None when it can."""
    names = [component_name(part) for part in (strategy, evaluator)]
    missing = [need for need in _CURES if need in strategy.requires - evaluator.provides]
    if missing:
        return f"the strategy {names[0]!r} {_CURES[missing[0]].format(evaluator=repr(names[1]))}"
    fewest, most = evaluator.fidelities
    wrong = [steps for steps in strategy.fidelities if steps < fewest or (most is not None and steps > most)]
    allowed = f"{fewest} to {most}" if most is not None else f"{fewest} or more"
    cure = "change the strategy's rungs, or the evaluator's steps"
    return f"the strategy {names[0]!r} proposes {wrong[0]} steps, but {names[1]!r} takes {allowed}: {cure}" if wrong else None


class _Loop:
    """The state of a running search. `history` holds all trials by number; those from `told` on are running."""

    def __init__(self, strategy: Strategy, evaluator: Evaluator, objective: Objective, journal: Journal, seed: int) -> None:
        self.strategy, self.evaluator, self.objective, self.journal, self.seed = strategy, evaluator, objective, journal, seed
        resumed = journal.resume()
        self.history, self.looked = _split(resumed.trials) if evaluator.looks else (resumed.trials, [])
        self.told = sum(trial.report is not None for trial in self.history)
        self.evaluated = sum(not trial.rejected for trial in self.history[: self.told])
        self.committed = self.told
        self.futures: dict[int, Future[Report]] = {}
        self.rejected: set[int] = set()
        self.identities: dict[int, str | None] = {}
        self.first_of: dict[str, int] = {}
        self.inspected: dict[int, Mapping[str, float]] = {}
        for trial in self.history[: self.told]:
            self._index(trial)
        if any(resumed.state.values()):
            strategy.load_state_dict(resumed.state["strategy"])
            evaluator.load_state_dict(resumed.state["evaluator"])

    def earlier(self, trials: int) -> Iterator[Trial]:
        """The trials of an earlier process that a search with this budget would have made."""
        evaluated = 0
        for trial in self.history[: self.told]:
            if evaluated >= trials:
                return
            evaluated += not trial.rejected
            yield trial

    def finished(self, trials: int) -> bool:
        """Whether the budget is used up, or nothing is left to evaluate after asking until every slot is taken."""
        if self.evaluated >= trials or self.looked:
            return True
        self._stop_if_nothing_fits(trials)
        while len(self.history) - self.told < self.evaluator.slots:
            number = len(self.history)
            rng = np.random.default_rng([self.seed, number])
            proposal = self.strategy.ask(self.history, rng)
            if proposal is None:  # asked again after the next trial: a resumed search could not know that it was asked before
                break
            self.history.append(Trial(number, self._owned(self._repaired(proposal, rng))))
        return self.told == len(self.history)

    def _repaired(self, proposal: Proposal, rng: np.random.Generator) -> Proposal:
        """The proposal as the space's rules want it; a mixture has no rules."""
        if proposal.mixture is not None:
            return proposal
        return replace(proposal, architecture=self.evaluator.repair(proposal.architecture, rng))

    def _owned(self, proposal: Proposal) -> Proposal:
        """The proposal with the parent that really trained the weights, where the named one took over its result."""
        report = self.history[proposal.parent].report if proposal.parent is not None else None
        return proposal if report is None or report.reused is None else replace(proposal, parent=report.reused)

    def step(self, trials: int) -> Trial:
        """Finish the oldest running trial and make it part of the memory."""
        self._start(trials)
        report = self.futures.pop(self.told).result()
        trial = self._scored(self.history[self.told], report)
        self.history[self.told] = trial
        self.told += 1
        self.evaluated += not trial.rejected
        self._index(trial)
        self.strategy.tell(trial)
        self.journal.append(trial)
        if self.evaluated >= trials or self.told % self.evaluator.commit_every == 0:
            self.commit()
        return trial

    def conclude(self) -> Iterator[Trial]:
        """Look at the architectures that the strategy names. Nobody is told: what was learned stays as the budget left it."""
        first = len(self.history)
        named = self.strategy.conclude(self.history, self.evaluator.looks, np.random.default_rng([self.seed, first]))
        yield from self.looked
        for architecture in named[len(self.looked) :]:
            look = Trial(first + len(self.looked), Proposal(architecture, steps=0))
            known = self._known(look)[1]
            trial = self._scored(look, self.evaluator.submit(look).result() if known is None else known)
            self.looked.append(trial)
            self.journal.append(trial)
            self._commit()
            yield trial

    def commit(self) -> None:
        """Make what was told durable."""
        if self.committed < self.told:
            self._commit()
            self.committed = self.told

    def _commit(self) -> None:
        state = {"strategy": self.strategy.state_dict(), "evaluator": self.evaluator.state_dict()}
        self.journal.commit(self.history[self.told :], state)

    def _start(self, trials: int) -> None:
        """Start the running trials that the budget has room for, in order.

        A trial that builds the same function as one still running waits for it: when its turn comes, all earlier ones are told.
        """
        room = trials - self.evaluated
        running: set[str] = set()
        for trial in self.history[self.told :]:
            if trial.number not in self.futures:
                identity, known = self._known(trial)
                if known is None and room <= 0:
                    return
                if known is not None:
                    self.futures[trial.number] = _done(known)
                elif identity is None or identity not in running:
                    self.futures[trial.number] = self.evaluator.submit(trial)
                    self.identities[trial.number] = identity
            running |= {identity} if (identity := self.identities.get(trial.number)) is not None else set()
            room -= trial.number not in self.rejected

    def _known(self, trial: Trial) -> tuple[str | None, Report | None]:
        """The key of a trial's function, and a report that needs no evaluation: cannot be built, breaks a constraint, or known."""
        try:
            identity = self.evaluator.identity(trial.proposal)
            twin = self.first_of.get(identity) if identity is not None else None
            if twin is not None and (earlier := self.history[twin].report) is not None:
                return identity, replace(earlier, seconds=0.0, reused=twin)
            metrics = self.evaluator.inspect(trial.proposal)
        except BLAMELESS:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - building a candidate may raise anything, and the search must go on
            return None, failure(error)
        self.inspected[trial.number] = metrics
        broken = self.objective.broken(metrics)
        if not broken:
            return identity, None
        self.rejected.add(trial.number)
        return identity, Report(metrics, error="; ".join(broken), kind="constraint")

    def _scored(self, trial: Trial, report: Report) -> Trial:
        known = self.inspected.pop(trial.number, {})
        if report.error is not None:
            score = self.objective.reject(report.metrics) if trial.number in self.rejected else None
            return replace(trial, report=report, score=score)
        if missing := {name: value for name, value in known.items() if name not in report.metrics}:
            report = replace(report, metrics={**report.metrics, **missing})
        try:
            return replace(trial, report=report, score=self.objective.score(report.metrics))
        except ValueError as error:
            return replace(trial, report=replace(report, error=str(error), kind="error"))

    def _index(self, trial: Trial) -> None:
        if trial.report is not None and trial.report.error is None:
            identity = self.evaluator.identity(trial.proposal)
            if identity is not None and trial.report.reused is None:
                self.first_of.setdefault(identity, trial.number)

    def _stop_if_nothing_fits(self, trials: int) -> None:
        rejected = self.told - self.evaluated
        if rejected >= 100 + 20 * trials:
            last = next(trial.report for trial in reversed(self.history[: self.told]) if trial.rejected)
            raise SearchError(
                f"{rejected} of {self.told} architectures break a constraint before training "
                f"(the last: {last.error if last else ''}): loosen objective.constraints or make the space smaller"
            )


def _split(trials: list[Trial]) -> tuple[list[Trial], list[Trial]]:
    """The trials of the budget, and the looks that concluded it: the last trials, without a step of training."""
    end = next((index for index in reversed(range(len(trials))) if trials[index].proposal.steps != 0), -1) + 1
    return trials[:end], trials[end:]


def _done(report: Report) -> "Future[Report]":
    future: Future[Report] = Future()
    future.set_result(report)
    return future
