"""Pieces that several spaces are made of: blocks of networks, and what settings and architectures are checked with."""

from collections.abc import Mapping, Sequence
from typing import TypeVar, final

from torch import Tensor, nn

Entry = TypeVar("Entry", int, float, str)


def each_once(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries of a setting. Raises ValueError when one occurs twice."""
    if len(set(entries)) != len(entries):
        raise ValueError(f"{list(entries)} holds an entry twice: give each once")
    return entries


def answer(architecture: Mapping[str, str], name: str, options: Sequence[str]) -> str:
    """Return the option that an architecture picks. Raises KeyError when it picks none, ValueError when it is not one of the options."""
    if name not in architecture:
        raise KeyError(f"the architecture does not answer {name}: pick one of {', '.join(options)}")
    if architecture[name] not in options:
        raise ValueError(f"{name} is {architecture[name]!r}: pick one of {', '.join(options)}")
    return architecture[name]


def block_name(stage: int, block: int) -> str:
    """Return the name of the decision on a block of a stage."""
    return f"stage_{stage}.block_{block}"


@final
class Residual(nn.Module):
    """Layers whose output is added to their input."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Features of any shape that the layers keep."""
        outputs: Tensor = features + self.layers(features)
        return outputs


@final
class SqueezeExcite(nn.Module):
    """Channels weighed by what all pixels say together (Hu, Shen and Sun 2018, Squeeze-and-excitation networks, section 3)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        squeeze, excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), squeeze, nn.ReLU(), excite, nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, channels, height, width) to features of the same shape."""
        outputs: Tensor = features * self.weigh(features)
        return outputs
