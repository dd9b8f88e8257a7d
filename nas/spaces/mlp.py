"""A perceptron of residual layers around a trunk of fixed width, for inputs of any shape: features of a table, or small images.

Gorishniy, Rubachev, Khrulkov and Babenko 2021, Revisiting deep learning models for tabular data, section 3.2, whose block is
normalisation, linear, activation, dropout, linear; the dense layers of Rumelhart, Hinton and Williams 1986 where no shortcut is chosen.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, final

from annotated_types import MinLen
from pydantic import AfterValidator, Field, PositiveInt

from nas.spaces.base import Options, Picker, SearchSpace
from nas.spaces.parts import answer, each_once
from nas.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn

SKIP = "skip"


@final
class Mlp(SearchSpace):
    """Layers on a trunk: width or skip, normalisation, activation, dropout and shortcut per layer.

    A layer goes from the trunk's width to its own and back, so that any layer fits any other and a supernet can share them.
    """

    trunk: int = Field(32, ge=2)
    """Numbers that flow between two layers."""
    layers: int = Field(3, ge=1)
    """Layers at most; all but the first may be skipped."""
    widths: Annotated[tuple[PositiveInt, ...], MinLen(1), AfterValidator(each_once)] = (16, 32, 64)
    """Widths of a layer to choose from."""
    normalisations: Annotated[tuple[Literal["layer", "batch", "none"], ...], MinLen(1), AfterValidator(each_once)] = ("layer", "batch")
    """What normalises a layer's inputs, to choose from."""
    activations: Annotated[tuple[Literal["relu", "silu", "gelu", "tanh"], ...], MinLen(1), AfterValidator(each_once)] = ("relu", "silu")
    """Nonlinearities to choose from."""
    dropouts: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], MinLen(1), AfterValidator(each_once)] = (0.0, 0.1)
    """Shares of a layer's numbers that training drops, to choose from."""
    shortcuts: Annotated[tuple[Literal["identity", "none"], ...], MinLen(1), AfterValidator(each_once)] = ("identity", "none")
    """Whether a layer adds to the trunk or replaces it, to choose from."""
    most_inputs: PositiveInt = 65536
    """Numbers per example at most: the first layer has `trunk` weights for each of them."""

    def define(self, pick: Picker, task: Task) -> "nn.Module":
        """All numbers of an example to the trunk, layers, and the task's head, which gets features (batch, trunk, 1, …)."""
        from torch import nn

        inputs = self._inputs(task.input_shape)
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, self.trunk)]
        for layer in range(self.layers):
            widths: dict[str, Callable[[], nn.Module]] = {SKIP: nn.Identity} if layer else {}
            widths |= {f"w{width}": partial(self._layer, pick, layer, width) for width in self.widths}
            layers.append(pick(f"layer_{layer}", widths))
        shape = (self.trunk, *[1] * (len(task.input_shape) - 1))
        return nn.Sequential(*layers, nn.LayerNorm(self.trunk), nn.ReLU(), nn.Unflatten(1, shape), task.head(self.trunk))

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        """Return the layers in order, each as its answers, without the skipped ones: all fit the trunk, so a gap is no place.

        Raises KeyError or ValueError for a missing or unknown answer.
        """
        found = []
        for layer in range(self.layers):
            widths = tuple(f"w{width}" for width in self.widths)
            width = answer(architecture, f"layer_{layer}", (SKIP, *widths) if layer else widths)
            if width != SKIP:
                found.append([width, *(answer(architecture, name, tuple(options)) for name, options in self._parts(layer).items())])
        return json.dumps(found, separators=(",", ":"))

    def _inputs(self, shape: Sequence[int]) -> int:
        inputs = math.prod(shape)
        if not shape or not inputs:
            raise ValueError(f"space 'mlp' wants numbers, the task gives examples of shape {tuple(shape)}: prepare data that are not empty")
        if inputs > self.most_inputs:
            raise ValueError(
                f"space 'mlp' takes at most {self.most_inputs} numbers per example, the task gives {inputs} in shape {tuple(shape)}: "
                "prepare smaller examples, raise most_inputs, or choose a space of convolutions"
            )
        return inputs

    def _parts(self, layer: int) -> dict[str, Options]:
        """The decisions inside a layer, by name."""
        from torch import nn

        from nas.networks.mlp import ACTIVATIONS, NORMALISATIONS, Zero

        name = f"layer_{layer}"
        return {
            f"{name}.normalisation": {kind: partial(NORMALISATIONS[kind], self.trunk) for kind in self.normalisations},
            f"{name}.activation": {kind: ACTIVATIONS[kind] for kind in self.activations},
            f"{name}.dropout": {f"p{share:g}": partial(nn.Dropout, share) if share else nn.Identity for share in self.dropouts},
            f"{name}.shortcut": {kind: {"identity": nn.Identity, "none": Zero}[kind] for kind in self.shortcuts},
        }

    def _layer(self, pick: Picker, layer: int, width: int) -> "nn.Module":
        from torch import nn

        from nas.networks.mlp import Layer

        normalise, activate, drop, shortcut = (pick(name, options) for name, options in self._parts(layer).items())
        into, back = nn.Linear(self.trunk, width), nn.Linear(width, self.trunk)
        return Layer(nn.Sequential(normalise, into, activate, drop, back), shortcut)
