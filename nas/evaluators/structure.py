"""What an architecture costs by its structure alone."""

from collections.abc import Callable, Mapping

import torch

from nas.architecture import Architecture
from nas.evaluators.base import Bench
from nas.training.cost import cost


def costs(
    known: dict[str, dict[str, float]], architecture: Architecture, bench: Bench, canonical: Callable[[Mapping[str, str]], str]
) -> Mapping[str, float]:
    """Return parameters and FLOPs of the network that the architecture builds alone; it is built without memory.

    `known` holds those that were worked out, by canonical form, and gets new ones.
    """
    form = canonical(architecture)
    if form not in known:
        with torch.device("meta"):
            network = bench.space.build(architecture, bench.task)
        known[form] = cost(network, bench.task)
    return known[form]
