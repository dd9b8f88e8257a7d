"""All options of a space in one network: weight sharing.

A mixture gives every option of every choice a weight; an option of weight 0 is not run (Bender et al. 2018; Liu et al. 2019, DARTS).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from nas.architecture import Architecture, Choice, Choices
from nas.networks.shared_edges import Mixed

if TYPE_CHECKING:
    from nas.architecture import Mixture


@final
class SupernetPicker:
    """Makes every option of every decision."""

    def __init__(self) -> None:
        self.places: list[Mixed] = []
        self._options: dict[str, tuple[str, ...]] = {}

    def __call__(self, name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        self._options[name] = tuple(options)  # before the decisions inside options, as they are recorded
        place = Mixed(name, options)
        self.places.append(place)
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
        self._mixture: Tensor | None = None

    def set_mixture(self, mixture: "Mixture", live: Mapping[str, Sequence[int]] | None = None) -> None:
        """Run this mixture from now on: a tensor (options,) per choice, read now and moved to the network's device.

        Gradients of the outputs flow to every tensor of the mixture. The gradient of a weight that is exactly 0 is 0, because
        its option is not run: the straight-through gradient of a hard sample (GDAS) is that of the chosen option alone.
        An option reaches nothing either while the edges around it carry nothing.

        Which weights are 0 is read from the tensors, for which a GPU would have to be waited for: give the mixture as tensors
        of the CPU, or give `live`, the positions of the options that run by choice. Move the network first, then set a mixture.

        Raises ValueError when a choice has no weights, another number of them than options, or no live one.
        """
        chosen = {choice.name: _checked(choice, mixture.get(choice.name)) for choice in self.choices}
        # Joined, so that one copy moves them all, and a tensor that nothing depends on still has a gradient, of zeros.
        joined = torch.cat(list(chosen.values()))
        like = next(self.network.parameters(), joined)
        self._mixture = joined.to(like.device, like.dtype, non_blocking=True)
        scalars = iter(self._mixture.unbind())
        running: dict[str, tuple[tuple[Tensor, ...] | None, tuple[int, ...]]] = {}
        for choice in self.choices:
            weights, parts = chosen[choice.name], tuple(islice(scalars, len(choice.options)))
            indices = tuple(weights.detach().nonzero().flatten().tolist() if live is None else live[choice.name])
            if not indices:
                raise ValueError(f"all weights of choice {choice.name!r} are 0: give one option a weight")
            running[choice.name] = None if _is_path(weights, indices) else parts, indices
        for place in self._places:
            place.running = running[place.name]

    def set_architecture(self, architecture: Architecture) -> None:
        """Run a single path from now on, without any weights: it computes what the network built alone does.

        Raises ValueError or KeyError when a choice is not answered with one of its options.
        """
        self.choices.check(architecture)
        self._mixture = None
        options = {choice.name: choice.options for choice in self.choices}
        for place in self._places:
            place.running = None, (options[place.name].index(architecture[place.name]),)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the current mixture. Raises RuntimeError before one is set."""
        outputs: Tensor = self.network(inputs)
        if self._mixture is not None and self._mixture.requires_grad and torch.is_grad_enabled():
            attached: Tensor = _Attached.apply(outputs, self._mixture)  # type: ignore[no-untyped-call]
            return attached
        return outputs

    def __getstate__(self) -> dict[str, object]:
        """A copy runs the same mixture, but no gradients flow from it to the original's."""
        mixture = None if self._mixture is None else self._mixture.detach()
        return self.__dict__ | {"_mixture": mixture}


def _checked(choice: Choice, weights: Tensor | None) -> Tensor:
    if weights is None or weights.shape != (len(choice.options),):
        found = "none" if weights is None else f"shape {tuple(weights.shape)}"
        raise ValueError(f"the weights of choice {choice.name!r} are {found}: give one to each of {', '.join(choice.options)}")
    return weights


def _is_path(weights: Tensor, live: Sequence[int]) -> bool:
    """Whether one option runs, with weight 1 and no gradient, as far as can be seen without waiting for a GPU."""
    return len(live) == 1 and not weights.requires_grad and weights.device.type == "cpu" and float(weights[live[0]]) == 1.0


class _Attached(torch.autograd.Function):
    """Outputs as they are, which depend on a mixture even where none of its weights is used."""

    @staticmethod
    def forward(context: Any, outputs: Tensor, mixture: Tensor) -> Tensor:
        context.save_for_backward(mixture)
        return outputs.view_as(outputs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, torch.zeros_like(context.saved_tensors[0])
