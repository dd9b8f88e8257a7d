"""What a network costs by its structure alone: parameters and floating-point operations."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.tasks.base import Task


def cost(network: nn.Module, task: Task) -> dict[str, float]:
    """Return `parameters` and `flops` of a network on the meta device.

    `flops` is for one example forward; a multiplication and its addition count as two, convolutions and matrix products count.
    """
    counter = FlopCounterMode(display=False)
    mode = network.training
    network.eval()
    with torch.no_grad(), counter:
        network(torch.zeros(1, *task.input_shape, device="meta"))
    network.train(mode)
    return {
        "parameters": float(sum(parameter.numel() for parameter in network.parameters())),
        "flops": float(counter.get_total_flops()),
    }
