"""When most candidates fail, something is wrong that more candidates will not mend: the search stops, and says what to change."""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, final

from nas.search import SearchError
from nas.trial import Trial

ENOUGH: Final = 10
"""Trials before a share says anything; a search of fewer runs to its end."""

_DEFAULT: Final = "correct the code or the setting that the reason names"
_CURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "time": "raise evaluator.limits.seconds, lower evaluator.steps, or search smaller networks",
        "memory": "raise evaluator.limits.memory, lower the recipe's batch_size, or search smaller networks",
        "diverged": "lower the recipe's learning_rate, lengthen its warmup, or set its gradient_clip",
        "parameters": "raise evaluator.limits.parameters, or set a bound in objective.constraints, which costs no trials",
        "flops": "raise evaluator.limits.flops, or set a bound in objective.constraints, which costs no trials",
        "died": "set evaluator.limits.memory to what the machine has, or correct code of the space that ends its process",
    }
)
"""What to change, by kind."""


@final
class Failures:
    """Takes every finished trial in order, those of an earlier process first, and stops the search when too many failed.

    Trials that were rejected before training do not count. The answer is a function of the trials so far, so a search that is
    continued stops at the same one, and one with a greater share goes on there.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._evaluated = 0
        self._failed: list[Trial] = []

    def add(self, trial: Trial) -> None:
        """Take a finished trial. Raises SearchError, with the commonest kind and its cure, when more than the share failed."""
        self._evaluated += not trial.rejected
        self._failed += [trial] if trial.status == "failed" else []
        if self._evaluated >= ENOUGH and len(self._failed) > self._share * self._evaluated:
            raise SearchError(self._sentence())

    def _sentence(self) -> str:
        kinds = counts(self._failed)
        kind, count = next(iter(kinds.items()))
        example = next(trial for trial in reversed(self._failed) if kind_of(trial) == kind)
        told = example.report.error if example.report is not None else ""
        return (
            f"{len(self._failed)} of {self._evaluated} trials failed, more than the share of {self._share:g} in search.max_failures: "
            f"{words(kinds)}. The commonest is {kind!r} ({count}), for example trial {example.number}: {told}. "
            f"To mend it, {_CURES.get(kind, _DEFAULT)}; a greater search.max_failures goes on with this search as it is"
        )


def kind_of(trial: Trial) -> str:
    """Return the kind of a failed trial; `error` where an old journal does not tell."""
    return (trial.report.kind if trial.report is not None else None) or "error"


def counts(trials: Iterable[Trial]) -> dict[str, int]:
    """Return how many trials failed by kind, the commonest first, of equally common ones by the alphabet."""
    found = Counter(kind_of(trial) for trial in trials if trial.status == "failed")
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def words(kinds: Mapping[str, int]) -> str:
    """Return counts of failures in words, such as `2 time, 1 memory`."""
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())
