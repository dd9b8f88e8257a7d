"""All options of a space in one network: weight sharing.

A mixture gives every option of every choice a weight; an option of weight 0 is not run (Bender et al. 2018; Liu et al. 2019, DARTS).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from nas.architecture import Architecture, Choice, Choices

if TYPE_CHECKING:
    from nas.architecture import Mixture


@final
class Mixed(nn.Module):
    """The options of one decision at one place; their outputs are summed by weight."""

    def __init__(self, name: str, options: Mapping[str, Callable[[], nn.Module]]) -> None:
        super().__init__()
        self.name = name
        self.options = nn.ModuleList([make() for make in options.values()])
        # A tuple, because a module would adopt a bare Parameter as a weight of its own.
        self.running: tuple[Tensor, tuple[int, ...]] | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Features in, the weighted sum of the live options' outputs out. Raises RuntimeError before a mixture is set."""
        if self.running is None:
            raise RuntimeError(f"the supernet has no mixture for {self.name!r}: call set_mixture first")
        weights, live = self.running
        terms = [self.options[index](features) * weights[index] for index in live]
        return torch.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0]


@final
class SupernetPicker:
    """Makes every option of every decision."""

    def __init__(self) -> None:
        self.places: list[Mixed] = []
        self._options: dict[str, tuple[str, ...]] = {}

    def __call__(self, name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        place = Mixed(name, options)
        self.places.append(place)
        self._options[name] = tuple(options)
        return place

    def number(self, name: str, options: Sequence[int]) -> int:
        """Refuse: a network cannot be half as wide."""
        raise ValueError(f"choice {name!r} picks a number, which a supernet cannot mix: use the evaluator 'scratch', or another space")

    def choices(self) -> Choices:
        """The decisions that were asked."""
        return Choices([Choice(name, options) for name, options in self._options.items()])


@final
class Supernet(nn.Module):
    """A network of mixed options, and the mixture it runs."""

    def __init__(self, network: nn.Module, picker: SupernetPicker) -> None:
        super().__init__()
        self.network = network
        self.choices = picker.choices()
        self._places = picker.places

    def set_mixture(self, mixture: "Mixture") -> None:
        """Run this mixture from now on; gradients flow to its tensors.

        Raises ValueError when a choice has no weights, another number of them than options, or only zeros.
        """
        running: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        for choice in self.choices:
            weights = mixture.get(choice.name)
            if weights is None or weights.shape != (len(choice.options),):
                found = "none" if weights is None else f"shape {tuple(weights.shape)}"
                raise ValueError(f"the weights of choice {choice.name!r} are {found}: give one to each of {', '.join(choice.options)}")
            running[choice.name] = weights, tuple(weights.detach().nonzero().flatten().tolist())
            if not running[choice.name][1]:
                raise ValueError(f"all weights of choice {choice.name!r} are 0: give one option a weight")
        for place in self._places:
            place.running = running[place.name]

    def set_architecture(self, architecture: Architecture) -> None:
        """Run a single path from now on. Raises ValueError or KeyError when a choice is not answered with one of its options."""
        self.choices.check(architecture)
        self.set_mixture(
            {
                choice.name: torch.tensor([float(option == architecture[choice.name]) for option in choice.options])
                for choice in self.choices
            }
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the current mixture."""
        outputs: Tensor = self.network(inputs)
        return outputs
