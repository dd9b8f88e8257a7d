"""What an architecture costs by its structure alone."""

from collections.abc import Callable, Mapping
from typing import final

import torch

from nas.architecture import Architecture
from nas.evaluators.base import Bench
from nas.training.cost import cost


@final
class Costs:
    """Parameters and FLOPs by canonical form, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, float]] = {}

    def of(self, architecture: Architecture, bench: Bench, canonical: Callable[[Mapping[str, str]], str]) -> Mapping[str, float]:
        """Return both for the network that the architecture builds alone; it is built without memory."""
        form = canonical(architecture)
        if form not in self._known:
            with torch.device("meta"):
                network = bench.space.build(architecture, bench.task)
            self._known[form] = cost(network, bench.task)
        return self._known[form]
