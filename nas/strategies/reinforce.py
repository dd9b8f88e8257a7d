"""REINFORCE: a policy proposes architectures, and options that earned more than the average become more likely.

Williams 1992, Simple statistical gradient-following algorithms for connectionist reinforcement learning; Zoph and Le 2017, Neural
architecture search with reinforcement learning (the LSTM controller); Pham et al. 2018, ENAS, when the evaluator shares weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.strategies.base import Strategy
from nas.strategies.policies import Controller, Independent, Pick, Policy, Vector
from nas.trial import History, Proposal, Trial


@final
class Reinforce(Strategy):
    """Policy gradient with a moving-average baseline, an entropy bonus, clipped gradients and Adam.

    What is learned from is the first objective, so bound the others by constraints. A trial that failed or breaks a constraint earns
    the lowest reward of a sound one so far: the policy must move away from it, and how bad it is cannot be told. While there is no such
    reward it is passed over.

    The defaults suit a few hundred evaluations. The row that Dong et al. 2021 (NATS-Bench) published is `policy: independent,
    learning_rate: 0.01, entropy: 0, clip: null`; it is slow: at 300 evaluations of NAS-Bench-201 ten times that rate finds more.
    """

    policy: Literal["lstm", "independent"] = "lstm"
    """`lstm` decides one choice after the other and knows the earlier answers; `independent` keeps a logit per option."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size of Adam; null takes 0.007 for `lstm` and 0.1 for `independent`. At 0.03 and more an LSTM settles on the first luck."""
    bias_rate: float = Field(0.14, gt=0)
    """Step size of Adam for the biases of an LSTM's answers, which are what `independent` has as logits: those are to learn as fast there,
    and the rest of the LSTM what they cannot say. The same as `learning_rate` is the plain controller."""
    entropy: float = Field(0.3, ge=0)
    """Weight of the policy's entropy, in units of the mean distance of the rewards from the baseline."""
    baseline_decay: float = Field(0.9, ge=0, lt=1)
    """How much of the average reward stays when a trial adds its own."""
    batch: int = Field(1, ge=1)
    """Trials per update."""
    clip: float | None = Field(5.0, gt=0)
    """Longest gradient, in the same units; longer ones are shortened to it. Null clips nothing."""
    hidden: int = Field(32, ge=1)
    """Units of the LSTM and numbers per embedded option."""

    @property
    def several_objectives(self) -> str:
        """A policy earns one reward."""
        return "earns by the first objective alone; constraints bound the others"

    _learner: "_Learner | None" = PrivateAttr(default=None)
    _pending: list[tuple[list[int], float, int]] = PrivateAttr(default_factory=list)
    _lowest: float | None = PrivateAttr(default=None)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Draw from the policy. The first generator that is seen also draws the policy's first weights."""
        if self._learner is None:
            self._learner = self._new_learner(np.random.default_rng(rng.integers(2**63)))
            self._learn()
        return Proposal(self._architecture(self._learner.policy.walk(_drawing(rng))))

    def tell(self, trial: Trial) -> None:
        """Learn when a batch is complete.

        The probability of an architecture is that under the policy of this moment. With several workers the policy that proposed it
        was a few updates older; anybody's proposals can be learned from in this way.
        """
        sound = trial.score is not None and trial.score.values and trial.score.feasibility == 0
        reward = trial.score.values[0] if trial.score is not None and sound else self._lowest
        if reward is None:
            return
        self._lowest = reward if self._lowest is None else min(self._lowest, reward)
        answers = [choice.options.index(trial.architecture[choice.name]) for choice in self.choices]
        self._pending.append((answers, float(reward), trial.number))
        self._learn()

    def conclude(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Architecture]:
        """Return the most likely answers, choice by choice, then draws from the policy; the default when nothing was learned."""
        if self._learner is None:
            return super().conclude(history, count, rng)
        policy = self._learner.policy
        likely = self._architecture(policy.walk(lambda _, probabilities: int(probabilities.argmax())))
        different = {self.canonical(likely): likely}
        for _ in range(100 * count):
            if len(different) >= count:
                break
            drawn = self._architecture(policy.walk(_drawing(rng)))
            different.setdefault(self.canonical(drawn), drawn)
        return list(different.values())[:count]

    def telemetry(self) -> Mapping[str, Sequence[float]]:
        """Return the policy's entropy (nats per choice) and the baseline, one point per update."""
        return {} if self._learner is None else self._learner.curves

    def state_dict(self) -> dict[str, Any]:
        """The policy's weights, Adam's moments, the averages, the curves and what waits for its batch."""
        learner = None if self._learner is None else self._learner.state_dict()
        pending = [[*answers, reward, number] for answers, reward, number in self._pending]
        return {"learner": learner, "pending": pending, "lowest": self._lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._learner = None
        if state["learner"] is not None:
            self._learner = self._new_learner(np.random.default_rng(0))
            self._learner.load_state_dict(state["learner"])
        self._pending = [(answers, reward, number) for *answers, reward, number in state["pending"]]
        self._lowest = state["lowest"]

    def _learn(self) -> None:
        if self._learner is not None and len(self._pending) >= self.batch:
            self._learner.update(self._pending)
            self._pending = []

    def _new_learner(self, rng: np.random.Generator) -> "_Learner":
        counts = [len(choice.options) for choice in self.choices]
        policy = Independent(counts, rng) if self.policy == "independent" else Controller(counts, self.hidden, rng)
        return _Learner(policy, self)

    def _architecture(self, answers: Sequence[int]) -> Architecture:
        return Architecture({choice.name: choice.options[answer] for choice, answer in zip(self.choices, answers, strict=True)})


def _drawing(rng: np.random.Generator) -> Pick:
    return lambda _, probabilities: min(int(np.searchsorted(probabilities.cumsum(), rng.random(), "right")), len(probabilities) - 1)


@final
class _Learner:
    """A policy with Adam (Kingma and Ba 2015) and the averages of what it earned."""

    def __init__(self, policy: "Policy", settings: Reinforce) -> None:
        self.policy, self._settings = policy, settings
        self._rates = np.full_like(policy.weights, settings.learning_rate or (0.1 if settings.policy == "independent" else 0.007))
        for name in policy.biases:
            policy.pieces(self._rates)[name][:] = settings.bias_rate
        self._first, self._second = np.zeros_like(policy.weights), np.zeros_like(policy.weights)
        self._sums = [0.0, 0.0, 0.0, 0.0]  # decayed: of rewards and how many they are, of distances and how many they are
        self.curves: dict[str, list[float]] = {"trial": [], "entropy": [], "baseline": []}

    def update(self, batch: Sequence[tuple[list[int], float, int]]) -> None:
        """Make one step of ascent on (reward - baseline) log p + bonus, averaged over (answers, reward, number) of each trial."""
        gradient, entropies = np.zeros_like(self.policy.weights), []
        for answers, reward, _ in batch:
            advantage, distance = self._compare(reward)
            slope, entropy = self.policy.gradient(answers, advantage, self._settings.entropy * distance)
            gradient += slope / len(batch)
            entropies.append(entropy)
        length, longest = math.sqrt(float(gradient @ gradient)), (self._settings.clip or math.inf) * (distance or 1.0)
        self._ascend(gradient * min(1.0, longest / length) if length > 0 else gradient)
        for name, value in (("trial", batch[-1][2]), ("entropy", float(np.mean(entropies))), ("baseline", reward - advantage)):
            self.curves[name].append(value)

    def _compare(self, reward: float) -> tuple[float, float]:
        """The reward less the baseline, which has just taken it in, and the average size of that."""
        sums, decay = self._sums, self._settings.baseline_decay
        sums[0], sums[1] = decay * sums[0] + (1 - decay) * reward, decay * sums[1] + 1 - decay
        advantage = reward - sums[0] / sums[1]
        sums[2], sums[3] = decay * sums[2] + (1 - decay) * abs(advantage), decay * sums[3] + 1 - decay
        return advantage, sums[2] / sums[3]

    def _ascend(self, gradient: Vector) -> None:
        step = len(self.curves["trial"]) + 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        mean, square = self._first / (1 - 0.9**step), self._second / (1 - 0.999**step)
        self.policy.weights += self._rates * mean / (np.sqrt(square) + 1e-8)

    def state_dict(self) -> dict[str, Any]:
        import torch  # snapshots hold tensors; a search that makes none can do without

        vectors = {"weights": self.policy.weights, "first": self._first, "second": self._second}
        curves = {name: list(values) for name, values in self.curves.items()}
        return {name: torch.tensor(vector) for name, vector in vectors.items()} | {"sums": list(self._sums), "curves": curves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.weights[:] = state["weights"].numpy()
        self._first, self._second = state["first"].numpy().copy(), state["second"].numpy().copy()
        self._sums, self.curves = list(state["sums"]), {name: list(values) for name, values in state["curves"].items()}
