"""Can every network of a space ship? Asked before anything is trained, of a few architectures that hold every option once.

An option that cannot be exported, or whose file computes something else, is found here and named, instead of in the winner.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final

import numpy as np
import torch

from export.check import check, require
from export.to_onnx import to_onnx
from export.typical import with_typical_weights
from nas.architecture import Architecture, Choices
from nas.evaluators.base import Bench, reason
from nas.processes import DiedError, LateError, Slot, Work

_PATIENCE = 300.0
_EXAMPLES = 8
_SUSPECTS = 12
"""How many options to try one by one, and how many architectures to find one that ships."""
_ROUNDS = 4
"""Times the longest list of options: so many architectures at most, since some options are never asked beside others."""
Decision = tuple[str, str]
"""A choice's name and an option."""
Decisions = Callable[[Architecture], Mapping[str, str]]
Ask = Callable[[Architecture], str | None]
"""What is wrong with an architecture as a file; None when nothing is."""


@final
class PreflightError(RuntimeError):
    """A space whose networks cannot all ship; the message names the option, what is wrong with it, and the cure."""


def preflight(bench: Bench, exporter: str, tolerance: float) -> int:
    """Export architectures that cover all options, compare each file with its network, and return how many there were.

    Raises PreflightError for the first that fails.
    """
    choices = bench.space.choices(bench.task)

    def decisions(architecture: Architecture) -> Mapping[str, str]:
        return bench.space.decisions(architecture, bench.task)

    asked = covering(choices, decisions, np.random.default_rng(0))
    with _asker(bench, exporter, tolerance) as ask:
        answers = [(architecture, ask(architecture)) for architecture in asked]
        failed = [(architecture, wrong) for architecture, wrong in answers if wrong is not None]
        if not failed:
            return len(asked)
        good = [architecture for architecture, wrong in answers if wrong is None] or _any_good(choices, ask)
        guilty = _guilty(failed, good, decisions, ask)
    raise PreflightError(_sentence(guilty, failed[0], exporter))


def covering(choices: Choices, decisions: Decisions, rng: np.random.Generator) -> list[Architecture]:
    """Architectures in which every option takes part, as few as a greedy choice of random ones finds."""
    missing = {(choice.name, option) for choice in choices for option in choice.options}
    found: list[Architecture] = []
    longest = max((len(choice.options) for choice in choices), default=1)
    for _ in range(_ROUNDS * longest):
        if not missing:
            break
        drawn = [_filled(choices, missing, rng) for _ in range(8)]
        best = max(drawn, key=lambda architecture: len(missing & set(decisions(architecture).items())))
        if taken := missing & set(decisions(best).items()):
            found.append(best)
            missing -= taken
    return found or [choices.sample(rng)]


def _filled(choices: Choices, missing: set[Decision], rng: np.random.Generator) -> Architecture:
    """A random architecture with an option that is still missing wherever there is one."""
    answers = dict(choices.sample(rng))
    for choice in choices:
        if left := [option for option in choice.options if (choice.name, option) in missing]:
            answers[choice.name] = left[int(rng.integers(len(left)))]
    return Architecture(answers)


def _any_good(choices: Choices, ask: Ask) -> list[Architecture]:
    """One architecture that ships, if a few random ones find it: without any, no option can be told from the others."""
    rng = np.random.default_rng(1)
    drawn = dict.fromkeys(choices.sample(rng) for _ in range(_SUSPECTS))
    return next(([architecture] for architecture in drawn if ask(architecture) is None), [])


def _guilty(
    failed: Sequence[tuple[Architecture, str]],
    good: Sequence[Architecture],
    decisions: Decisions,
    ask: Callable[[Architecture], str | None],
) -> list[tuple[Decision, str]]:
    """The options that fail in an architecture that ships without them, with what is wrong; empty when none does by itself."""
    if not good:
        return []
    cleared = {decision for architecture in good for decision in decisions(architecture).items()}
    suspects = dict.fromkeys(
        decision for architecture, _ in failed for decision in decisions(architecture).items() if decision not in cleared
    )
    found = []
    for name, option in list(suspects)[:_SUSPECTS]:
        for architecture in good:
            changed = Architecture({**architecture, name: option})
            if decisions(changed).get(name) == option:
                if (wrong := ask(changed)) is not None:
                    found.append(((name, option), wrong))
                break
    return found


def _sentence(guilty: Sequence[tuple[Decision, str]], first: tuple[Architecture, str], exporter: str) -> str:
    cure = f"leave it out of the space, mend it, or export otherwise than by {exporter!r} (export.exporter)"
    if guilty:
        names = ", ".join(f"{name} = {option}" for (name, option), _ in guilty)
        return f"search.space holds what cannot ship, {names}: {guilty[0][1]}; {cure}"
    architecture, wrong = first
    words = ", ".join(f"{name} {option}" for name, option in architecture.items())
    return f"search.space holds a network that cannot ship ({words}): {wrong}; {cure}"


@final
class _Exporting(Work):
    """What the process does: export, compare, and say what is wrong."""

    def __init__(self, bench: Bench, exporter: str, tolerance: float) -> None:
        self._bench, self._exporter, self._tolerance = bench, exporter, tolerance

    def begin(self) -> None:
        """Nothing is needed before the first architecture."""

    def answer(self, question: Architecture) -> str | None:
        bench, task = self._bench, self._bench.task
        try:
            with tempfile.TemporaryDirectory(prefix="nasflow-preflight-") as place:
                torch.manual_seed(0)
                module = with_typical_weights(task.deployable(bench.space.build(question, task))).eval()
                path = Path(place) / "model.onnx"
                to_onnx(module, task.example(2), path, outputs=task.output_names, metadata={}, exporter=self._exporter)
                parity, _ = check(path, module, bench.dataset.as_bytes("fit")[:_EXAMPLES], tolerance=self._tolerance)
                require(parity)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an option may raise anything
            return reason(error)
        return None


@contextmanager
def _asker(bench: Bench, exporter: str, tolerance: float) -> Iterator[Ask]:
    """What answers in a process of its own, so that an option that ends it is found as well."""
    slot = Slot(_Exporting(bench, exporter, tolerance))

    def ask(architecture: Architecture) -> str | None:
        try:
            wrong: str | None = slot.run(architecture, _PATIENCE)
        except (DiedError, LateError) as error:
            return str(error)
        return wrong

    try:
        yield ask
    finally:
        slot.end()
