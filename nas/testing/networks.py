"""What is asked of a network: which layers run, whose weights fit whom, and whether two networks compute the same."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def layers_run(network: nn.Module, inputs: Tensor) -> list[nn.Module]:
    """The layers with weights or statistics that a forward runs, in the order they run."""
    run: list[nn.Module] = []
    leaves = [module for module in network.modules() if not list(module.children()) and module.state_dict()]
    hooks = [leaf.register_forward_hook(lambda module, *_: run.append(module)) for leaf in leaves]
    mode = network.training
    with torch.no_grad():
        network.eval()(inputs)
    network.train(mode)
    for hook in hooks:
        hook.remove()
    return run


def shapes(layers: Iterable[nn.Module]) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Kind and shapes of layers."""
    return [(type(layer).__name__, [tuple(tensor.shape) for tensor in layer.state_dict().values()]) for layer in layers]


def copy_in_order(source: nn.Module, target: nn.Module, inputs: Tensor) -> bool:
    """Give each layer of `target` the weights of the layer of `source` that runs in its turn; False where they do not fit."""
    theirs, mine = layers_run(source, inputs), layers_run(target, inputs)
    if shapes(theirs) != shapes(mine):
        return False
    for one, other in zip(theirs, mine, strict=True):
        other.load_state_dict(one.state_dict())
    return True


def scramble(network: nn.Module, seed: int = 0) -> None:
    """Move scales, shifts and statistics away from 0 and 1, where a wrong copy would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1 and tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise - 0.5 if name.endswith(("bias", "running_mean")) else noise + 0.5)


def equal_outputs(first: nn.Module, second: nn.Module, inputs: Tensor) -> bool:
    """Whether two networks give equal outputs, and draw alike in training."""
    found = []
    for network in (first, second):
        torch.manual_seed(1)
        found.append((network.eval()(inputs), network.train()(inputs)))
    return all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*found, strict=True))


def same_function(first: nn.Module, second: nn.Module, inputs: Tensor) -> bool:
    """Whether two networks are one function once the second has the first one's weights in the order their layers run."""
    scramble(first)
    return copy_in_order(first, second, inputs) and equal_outputs(first, second, inputs)
