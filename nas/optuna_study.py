"""What strategies that wrap Optuna share: an in-memory study that follows a history, and proposals that were not seen before.

Akiba, Sano, Yanase, Ohta and Koyama 2019, Optuna: A next-generation hyperparameter optimization framework.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from nas.architecture import Architecture, Choices
from nas.trial import History, Trial

if TYPE_CHECKING:  # Optuna takes half a second to import, and settings are checked without it
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

REDRAWS = 3
"""Draws before mutation; more cost time and found nothing better on NAS-Bench-201."""
MUTATIONS = 30
"""Steps of the walk away from a known architecture."""


class Record(NamedTuple):
    """What a sampler learns from: an architecture, its values (greater is better), and what is said of constraints.

    `excess` is None while no trial breaks a constraint, else how far this one is beyond them, and -1 where it keeps to them: with 0
    there a model would think that it is on the brink.
    """

    architecture: Architecture
    values: tuple[float, ...]
    excess: float | None


def records(history: History) -> list[Record]:
    """Return what the finished trials of a history say, in order. Failed trials say nothing.

    What was rejected before training has no values: it gets the worst of each objective, and its excess tells it apart.
    """
    scores = [(trial.architecture, trial.score) for trial in history if trial.score is not None]
    trained = [score.values for _, score in scores if score.values]
    worst = tuple(min(column) for column in zip(*trained, strict=True)) if trained else (0.0,)
    if not any(score.feasibility < 0 for _, score in scores):
        return [Record(made, score.values or worst, None) for made, score in scores]
    return [Record(made, score.values or worst, -score.feasibility if score.feasibility < 0 else -1.0) for made, score in scores]


@final
class FollowedStudy:
    """A study that holds what a history holds. It only saves time: what is asked depends on the history and the sampler alone.

    Trials that ended are added once; those that still run are added for the length of one question, then given up, and
    no sampler looks at trials that were given up. When the history is not the one seen before, the study is made anew.
    """

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._held: list[Record] = []
        self._study: Study | None = None
        self._distributions: dict[str, BaseDistribution] = {}

    def ask(self, history: History, sampler: "BaseSampler") -> Architecture:
        """Return what a sampler proposes after a history. The sampler must be new, and seeded."""
        from optuna.trial import TrialState

        study = self._follow(history)
        running = [self._add(study, self._trial(trial.architecture, TrialState.RUNNING)) for trial in history if trial.report is None]
        asked = self._add(study, self._trial({}, TrialState.RUNNING))
        # The sampler is asked itself: on the way through the study it would compare the distributions of all trials anew each time.
        undecided = {name: distribution for name, distribution in self._distributions.items() if not distribution.single()}
        picked = sampler.sample_relative(study, study.get_trials(deepcopy=False)[asked], undecided)
        for number in (*running, asked):
            study.tell(number, state=TrialState.FAIL)
        return Architecture({choice.name: picked.get(choice.name, choice.options[0]) for choice in self._choices})

    def _follow(self, history: History) -> "Study":
        import optuna

        wanted = records(history)
        study = self._study
        if study is None or wanted[: len(self._held)] != self._held:
            kind = optuna.distributions.CategoricalDistribution
            self._distributions = {choice.name: kind(choice.options) for choice in self._choices}
            with _quiet():
                study = optuna.create_study(directions=["maximize"] * len(wanted[0].values if wanted else (0.0,)))
            self._study, self._held = study, []
        for record in wanted[len(self._held) :]:
            self._add(study, self._trial(record.architecture, optuna.trial.TrialState.COMPLETE, record))
        self._held = wanted
        return study

    def _trial(self, answers: Mapping[str, str], state: "TrialState", record: Record | None = None) -> "FrozenTrial":
        from optuna.trial import create_trial

        excess = record.excess if record is not None else None
        return create_trial(
            state=state,
            params=dict(answers),
            distributions={name: self._distributions[name] for name in answers},
            values=list(record.values) if record is not None else None,
            constraints={"excess": excess} if excess is not None else None,
        )

    @staticmethod
    def _add(study: "Study", trial: "FrozenTrial") -> int:
        study.add_trial(trial)
        return len(study.get_trials(deepcopy=False)) - 1


def unseen(
    draw: Callable[[], Architecture],
    history: History,
    choices: Choices,
    canonical: Callable[[Architecture], str],
    rng: np.random.Generator,
    redraws: int = REDRAWS,
) -> Architecture:
    """Return the first drawn architecture whose function is not in the history, failed and running trials included.

    An evaluator answers a known function from its memory, so proposing it again spends a trial and teaches nothing, while a
    sampler that has found a good region does so often. After a few draws the last one is mutated until it is new, at most
    some thirty times: in a space that is used up, a known architecture is returned.
    """
    known = {canonical(trial.architecture) for trial in history}
    for _ in range(redraws):
        drawn = draw()
        if canonical(drawn) not in known:
            return drawn
    for _ in range(MUTATIONS):
        drawn = choices.mutate(drawn, rng)
        if canonical(drawn) not in known:
            return drawn
    return drawn


def seed_from(rng: np.random.Generator) -> int:
    """Draw a seed for a library that wants a number."""
    return int(rng.integers(2**31))


def trained(history: History) -> list[Trial]:
    """Return the trials whose score holds values."""
    return [trial for trial in history if trial.score is not None and trial.score.values]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's note on a new study to itself, for this block and no longer."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
