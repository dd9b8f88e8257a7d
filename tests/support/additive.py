"""A small table of results that is made, not measured: options that add up, with conflicts, failures, and two objectives."""

import zlib
from collections.abc import Mapping

from nas.architecture import Choice, Choices
from nas.evaluators.base import Evaluator
from nas.trial import Proposal, Report, Trial

CHOICES = Choices([Choice(name, tuple("01234")) for name in "abcdef"])
"""15,625 architectures, as NAS-Bench-201 has."""


class Additive(Evaluator):
    """Every option has a worth that looks random, and options that are worth more cost more; neighbours interact a little."""

    trouble: bool = False
    """Whether one architecture in twenty fails."""

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"gradient", "curvature", "steps"})

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        return {"parameters": float(sum(int(option) ** 2 + int(option) for option in proposal.architecture.values()))}

    def evaluate(self, trial: Trial) -> Report:
        answers = "".join(trial.architecture.values())
        if self.trouble and zlib.crc32(answers.encode()) % 20 == 0:
            raise RuntimeError("trouble")
        worth = sum(int(option) ** 0.5 + _noise(f"{place}{option}") for place, option in enumerate(answers))
        worth += 0.3 * sum(_noise(f"{place}{answers[place : place + 2]}") for place in range(len(answers) - 1))
        steps = trial.proposal.steps
        worth += 0 if steps is None else 3 * _noise(answers) / steps**0.5
        return Report({"accuracy": worth / 20, **self.inspect(trial.proposal)})


def _noise(text: str) -> float:
    """A number from 0 to 1 that looks random."""
    return zlib.crc32(text.encode()) % 997 / 997
