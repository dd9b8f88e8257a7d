"""The statistics of batch normalisation where weights are shared: kept while something only looks, recomputed for one path."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Give tensors their present values back, bit for bit, when the context ends."""
    before = copies(tensors)
    try:
        yield
    finally:
        put_back(tensors, before)


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies, in the same order in memory."""
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Overwrite tensors with values, one by one."""
    for kind in {tensor.dtype for tensor in tensors}:  # one call serves tensors of one type
        chosen = [index for index, tensor in enumerate(tensors) if tensor.dtype == kind]
        torch._foreach_copy_([tensors[index] for index in chosen], [values[index] for index in chosen])


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Replace running means and variances by the plain averages over batches of network inputs, in the layers that these reach.

    Without batches nothing is done. The shared statistics are an average over many different paths and fit none of them (Guo et al.
    2020, Single path one-shot neural architecture search with uniform sampling, section 3.4).
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers or not batches:
        return
    mode, momenta = network.training, [layer.momentum for layer in layers]
    network.train()
    try:
        for layer in layers:
            layer.reset_running_stats()
        for number, batch in enumerate(batches, 1):
            for layer in layers:
                layer.momentum = 1 / number  # an average over all so far; the first batch replaces what reset left
            network(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        network.train(mode)
