"""Policies of REINFORCE: probabilities of a choice's options, and their derivatives, in NumPy.

Williams 1992, Simple statistical gradient-following algorithms for connectionist reinforcement learning; Zoph and Le 2017, Neural
architecture search with reinforcement learning, for the LSTM controller.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Pick = Callable[[int, Vector], int]
"""From the position of a choice and the probabilities of its options to the position of the option taken."""


class Policy(ABC):
    """Probabilities of the options of one choice after the other.

    `weights` is a vector of all that is learned, and `part` its pieces by name, which share its memory. `biases` names the pieces that
    are logits by themselves, beside weights that give logits from the answers before.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], biases: Sequence[str] = ()) -> None:
        self._shapes, self.biases = shapes, biases
        self.weights = np.zeros(sum(math.prod(shape) for shape in shapes.values()))
        self.part = self.pieces(self.weights)

    def pieces(self, vector: Vector) -> dict[str, Vector]:
        """Views into a vector like `weights`."""
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()]).tolist()
        return {
            name: vector[end - math.prod(shape) : end].reshape(shape) for (name, shape), end in zip(self._shapes.items(), ends, strict=True)
        }

    @abstractmethod
    def forward(self, pick: Pick) -> tuple[list[int], list[Vector], Any]:
        """Return the answers, the probabilities of the options at each choice, and what `backward` needs."""

    @abstractmethod
    def backward(self, tape: Any, slopes: Sequence[Vector]) -> Vector:
        """From derivatives with respect to each choice's logits to those with respect to the weights, of the same shape."""

    def walk(self, pick: Pick) -> list[int]:
        """Answer every choice."""
        return self.forward(pick)[0]

    def gradient(self, answers: Sequence[int], advantage: float, bonus: float) -> tuple[Vector, float]:
        """Return d (advantage * log p(answers) + bonus * entropy) / d weights, and the entropy in nats per choice that is open.

        The entropy is that of each choice given the answers before it; which answers these are counts as given.
        """
        _, probabilities, tape = self.forward(lambda position, _: answers[position])
        slopes, total = [], 0.0
        for answer, likely in zip(answers, probabilities, strict=True):
            logs = np.log(np.maximum(likely, 1e-300))
            entropy = -float(likely @ logs)
            slope = -advantage * likely - bonus * likely * (logs + entropy)
            slope[answer] += advantage
            slopes.append(slope)
            total += entropy
        return self.backward(tape, slopes), total / max(1, sum(len(likely) > 1 for likely in probabilities))


@final
class Independent(Policy):
    """A logit per option, from 0.001 N(0, 1); every choice is drawn by itself."""

    def __init__(self, counts: Sequence[int], rng: np.random.Generator) -> None:
        super().__init__({str(position): (count,) for position, count in enumerate(counts)})
        self.weights[:] = 1e-3 * rng.standard_normal(len(self.weights))

    def forward(self, pick: Pick) -> tuple[list[int], list[Vector], Any]:
        """Answer every choice by itself."""
        probabilities = [softmax(logits) for logits in self.part.values()]
        return [pick(position, likely) for position, likely in enumerate(probabilities)], probabilities, None

    def backward(self, tape: Any, slopes: Sequence[Vector]) -> Vector:
        """The slopes one after the other, as the logits lie."""
        return np.concatenate(slopes) if slopes else np.zeros(0)


@final
class Controller(Policy):
    """An LSTM (Hochreiter and Schmidhuber 1997) that reads the answer before and gives the logits of the next; U(-0.08, 0.08) first."""

    def __init__(self, counts: Sequence[int], hidden: int, rng: np.random.Generator) -> None:
        shapes: dict[str, tuple[int, ...]] = {"start": (hidden,), "gates": (2 * hidden, 4 * hidden), "gates_bias": (4 * hidden,)}
        for position, count in enumerate(counts):
            shapes |= {f"embedding_{position}": (count, hidden), f"head_{position}": (hidden, count), f"bias_{position}": (count,)}
        super().__init__(shapes, [f"bias_{position}" for position in range(len(counts))])
        self._counts, self._hidden = counts, hidden
        self.weights[:] = rng.uniform(-0.08, 0.08, len(self.weights))

    def forward(self, pick: Pick) -> tuple[list[int], list[Vector], Any]:
        """Answer one choice after the other, each knowing the answers before."""
        part, size = self.part, self._hidden
        entry, output, cell = part["start"], np.zeros(size), np.zeros(size)
        answers, probabilities, tape = [], [], []
        for position in range(len(self._counts)):
            joined = np.concatenate([entry, output])
            sums = joined @ part["gates"] + part["gates_bias"]
            gates = 1 / (1 + np.exp(-sums[: 3 * size]))
            content, before = np.tanh(sums[3 * size :]), cell
            cell = gates[size : 2 * size] * cell + gates[:size] * content
            output = gates[2 * size :] * np.tanh(cell)
            probabilities.append(softmax(output @ part[f"head_{position}"] + part[f"bias_{position}"]))
            answers.append(pick(position, probabilities[-1]))
            tape.append((answers[-1], joined, gates, content, before, np.tanh(cell), output))
            entry = part[f"embedding_{position}"][answers[-1]]
        return answers, probabilities, tape

    def backward(self, tape: Any, slopes: Sequence[Vector]) -> Vector:
        """Backpropagation through time."""
        vector, size = np.zeros_like(self.weights), self._hidden
        found, part = self.pieces(vector), self.part
        d_entry, d_output, d_cell = np.zeros(size), np.zeros(size), np.zeros(size)
        for position in reversed(range(len(slopes))):
            answer, joined, gates, content, before, squashed, output = tape[position]
            opened, kept, shown = gates[:size], gates[size : 2 * size], gates[2 * size :]
            found[f"embedding_{position}"][answer] = d_entry
            found[f"head_{position}"][:] = np.outer(output, slopes[position])
            found[f"bias_{position}"][:] = slopes[position]
            d_output = d_output + part[f"head_{position}"] @ slopes[position]
            d_cell = d_cell + d_output * shown * (1 - squashed**2)
            d_gates = np.concatenate([d_cell * content, d_cell * before, d_output * squashed]) * gates * (1 - gates)
            d_sums = np.concatenate([d_gates, d_cell * opened * (1 - content**2)])
            found["gates"] += np.outer(joined, d_sums)
            found["gates_bias"] += d_sums
            d_joined = part["gates"] @ d_sums
            d_entry, d_output, d_cell = d_joined[:size], d_joined[size:], d_cell * kept
        found["start"][:] = d_entry
        return vector


def softmax(logits: Vector) -> Vector:
    """Probabilities of logits, shape (options,)."""
    raised = np.exp(logits - logits.max())
    probabilities: Vector = raised / raised.sum()
    return probabilities
