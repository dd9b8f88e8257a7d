"""What to_onnx and check ask of a module: evaluation mode, and a tuple of tensors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode without gradients; every submodule gets its own mode back afterwards."""
    # One flag per submodule: `module.train(True)` would wake a batch norm that was frozen on purpose.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def device_of(module: nn.Module) -> torch.device:
    """Where the module's first parameter or buffer lives; the CPU when it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def outputs_of(result: object) -> tuple[Tensor, ...]:
    """The result as a tuple of tensors (a single tensor is a tuple of one). Raises TypeError for anything else."""
    results = result if isinstance(result, tuple) else (result,)
    tensors = tuple(part for part in results if isinstance(part, Tensor))
    if len(tensors) != len(results):
        raise TypeError(f"the module returned {type(result).__name__}, but must return a tuple of tensors")
    return tensors
