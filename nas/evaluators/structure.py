"""What an architecture costs by its structure alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import final

import torch

from nas.architecture import Architecture
from nas.evaluators.base import Bench
from nas.training.cost import cost


@final
@dataclass
class Costs:
    """Parameters and FLOPs by canonical form, each worked out once."""

    known: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, architecture: Architecture, bench: Bench, canonical: Callable[[Mapping[str, str]], str]) -> Mapping[str, float]:
        """Return both for the network that the architecture builds alone; it is built without memory."""
        form = canonical(architecture)
        if form not in self.known:
            with torch.device("meta"):
                network = bench.space.build(architecture, bench.task)
            self.known[form] = cost(network, bench.task)
        return self.known[form]
