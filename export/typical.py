"""A module with weights as a training leaves them, for timing a structure before anybody has trained it.

Fresh weights have a structure of their own: batch normalisation that shifts by nothing lets an exporter drop the bias of the
convolution before it, so the file would not be the one that ships.
"""

import copy

import torch
from torch import nn


def with_typical_weights(module: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of `module` whose floating-point parameters and buffers are each moved a little, all by different amounts.

    Parameters move by up to a tenth; so do running statistics, and variances grow. Buffers that normalise nothing, such as constants of
    the preprocessing, stay. `module` itself and PyTorch's own generator are left alone.
    """
    moved = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in moved.parameters():
            if parameter.is_floating_point():
                parameter.add_(_noise(parameter, generator))
        for name, buffer in moved.named_buffers():
            if name.rpartition(".")[2] in ("running_mean", "running_var"):
                buffer.add_(_noise(buffer, generator).abs())
    return moved


def _noise(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return (0.2 * torch.rand(like.shape, generator=generator) - 0.1).to(like)
