"""What a search decides: choices, and the architectures that answer them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Mixture = Mapping[str, Tensor]
    """A weight per option of every choice, each of shape (options,): a soft architecture."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision: a name and the options to pick one of.

    Raises ValueError when there is no option or an option occurs twice.
    """

    name: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) != len(self.options):
            raise ValueError(f"choice {self.name!r} has options {self.options}: give at least one, each once")


class Architecture(Mapping[str, str]):
    """One option per choice. Immutable and hashable; `dict(architecture)` is its JSON form."""

    __slots__ = ("_hash", "_options")

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = dict(options)
        self._hash: int | None = None

    def __getitem__(self, name: str) -> str:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._options.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._options == other._options

    def __reduce__(self) -> tuple[type["Architecture"], tuple[dict[str, str]]]:
        # The hash of a text differs between processes, so a copy in another process must not inherit the one kept here.
        return Architecture, (self._options,)

    def __repr__(self) -> str:
        return f"Architecture({self._options})"

    def replace(self, name: str, option: str) -> "Architecture":
        """Return this architecture with the choice `name` answered by `option`."""
        return Architecture({**self._options, name: option})


class Choices(Sequence[Choice]):
    """All decisions of a space, in the order they were first asked.

    Raises ValueError when two choices have one name.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._choices = tuple(choices)
        self._names = tuple(choice.name for choice in self._choices)
        if len(set(self._names)) != len(self._names):
            raise ValueError(f"choice names {self._names} are not unique: rename one")
        self._options = tuple(choice.options for choice in self._choices)
        self._counts = np.array([len(options) for options in self._options], dtype=np.int64)
        self._open = [position for position, options in enumerate(self._options) if len(options) > 1]

    @overload
    def __getitem__(self, index: int) -> Choice: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Choice]: ...
    def __getitem__(self, index: int | slice) -> Choice | Sequence[Choice]:
        return self._choices[index]

    def __len__(self) -> int:
        return len(self._choices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choices) and self._choices == other._choices

    def __hash__(self) -> int:
        return hash(self._choices)

    @property
    def size(self) -> int:
        """The number of architectures."""
        return math.prod(len(options) for options in self._options)

    def check(self, architecture: Mapping[str, str]) -> None:
        """Raise ValueError when `architecture` does not answer exactly these choices with their options."""
        if set(architecture) != set(self._names):
            different = sorted(set(architecture) ^ set(self._names))
            raise ValueError(f"the architecture and the space differ in the choices {different}: answer each choice of the space once")
        for choice in self._choices:
            if architecture[choice.name] not in choice.options:
                raise ValueError(f"{choice.name} is {architecture[choice.name]!r}: pick one of {', '.join(choice.options)}")

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw every option uniformly and independently."""
        return self._from_indices(rng.integers(0, self._counts).tolist())

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Change one choice, drawn uniformly, to another of its options. Where nothing can be changed, return it as it is."""
        if not self._open:
            return architecture
        position = self._open[int(rng.integers(len(self._open)))]
        name, options = self._names[position], self._options[position]
        step = 1 + int(rng.integers(len(options) - 1))
        return architecture.replace(name, options[(options.index(architecture[name]) + step) % len(options)])

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Take every choice from one of two parents by a fair coin (uniform crossover)."""
        coins = rng.random(len(self)) < 0.5
        return Architecture({name: (first if coin else second)[name] for name, coin in zip(self._names, coins, strict=True)})

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """All architectures that differ in exactly one choice."""
        return [
            architecture.replace(name, option)
            for name, options in zip(self._names, self._options, strict=True)
            for option in options
            if option != architecture[name]
        ]

    def encode(self, architecture: Architecture) -> NDArray[np.float32]:
        """One-hot code of shape (sum of the option counts,)."""
        bits = [option == architecture[name] for name, options in zip(self._names, self._options, strict=True) for option in options]
        return np.array(bits, dtype=np.float32)

    def _from_indices(self, indices: Sequence[int]) -> Architecture:
        picked = zip(self._names, self._options, indices, strict=True)
        return Architecture({name: options[index] for name, options, index in picked})
