"""Derivatives with respect to a mixture: first order, second order through an unrolled weight step, and the curvature."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from nas.training.statistics import kept

Loss = Callable[[Mapping[str, Tensor]], Tensor]
"""The loss of one fixed batch under a mixture."""

_STEP = 0.01
"""Length of the difference in second order (Liu et al. 2019, section 2.3)."""
_REACH = 0.05
"""Length in logits of the difference that gives a product with the Hessian; shorter ones drown in float32."""


def leaves(mixture: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of a mixture's tensors that gradients are taken for."""
    return {name: weights.detach().clone().requires_grad_() for name, weights in mixture.items()}


@contextmanager
def frozen(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Compute no gradients of weights, and keep nothing for them, while the context lasts."""
    before = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight, needed in zip(weights, before, strict=True):
            weight.requires_grad_(needed)


def gradient(loss: Loss, mixture: Mapping[str, Tensor], weights: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Return d loss / d mixture, each of shape (options,); no gradient of the weights is computed.

    An option of weight 0 was not run, so its gradient is 0.
    """
    variables = leaves(mixture)
    with frozen(weights):
        found = torch.autograd.grad(loss(variables), list(variables.values()), allow_unused=True)
    return {name: torch.zeros_like(mixture[name]) if part is None else part for name, part in zip(variables, found, strict=True)}


def unrolled_gradient(
    training: Loss, architecture: Loss, mixture: Mapping[str, Tensor], weights: Sequence[nn.Parameter], rate: float
) -> dict[str, Tensor]:
    """Return the gradient of the architecture loss after one plain step of the weights that depends on the mixture.

    With w' = w - rate * d training / d w: d architecture(w') / d mixture - rate * the mixed second derivative of the training loss
    applied to d architecture(w') / d w', by a central difference (Liu et al. 2019, DARTS, equations 6 to 8). The step leaves
    momentum, weight decay and clipping out, as the equations do. The weights are afterwards what they were, bit for bit.
    """
    with kept(weights):
        fixed = {name: part.detach() for name, part in mixture.items()}
        step = torch.autograd.grad(training(fixed), list(weights), allow_unused=True)
        _move(weights, step, -rate)
        variables = leaves(mixture)
        found = torch.autograd.grad(architecture(variables), [*variables.values(), *weights], allow_unused=True)
    mixed = _mixed_derivative(training, mixture, weights, found[len(variables) :])
    direct = dict(zip(mixture, found, strict=False))
    return {name: (0 if (part := direct[name]) is None else part) - rate * mixed[name] for name in mixture}


@torch.no_grad()
def _move(weights: Sequence[Tensor], direction: Sequence[Tensor | None], length: float) -> None:
    """Move the weights that the direction has a part for."""
    pairs = [(weight, part) for weight, part in zip(weights, direction, strict=True) if part is not None]
    torch._foreach_add_([weight for weight, _ in pairs], [part for _, part in pairs], alpha=length)


def _mixed_derivative(
    loss: Loss, mixture: Mapping[str, Tensor], weights: Sequence[nn.Parameter], direction: Sequence[Tensor | None]
) -> dict[str, Tensor]:
    """d² loss / d mixture d weights applied to a direction of the weights."""
    parts = [part for part in direction if part is not None]
    if not parts:
        return {name: torch.zeros_like(part) for name, part in mixture.items()}
    reach = _STEP / torch.linalg.vector_norm(torch.stack(torch._foreach_norm(parts))).clamp_min(1e-12)
    difference = [None if part is None else part * reach for part in direction]
    found = []
    for sign in (1.0, -1.0):
        with kept(weights):
            _move(weights, difference, sign)
            found.append(gradient(loss, mixture, weights))
    scale = (2 * reach).cpu()
    return {name: (found[0][name] - found[1][name]) / scale for name in mixture}


def curvature(loss: Loss, mixture: Mapping[str, Tensor], weights: Sequence[nn.Parameter], *, seed: int, products: int) -> float:
    """Return the largest eigenvalue of the Hessian of the loss with respect to the logits whose softmax is the mixture.

    The dominant eigenvalue of Zela et al. 2020 (Understanding and robustifying differentiable architecture search, section 4), by
    the Lanczos method with `products` products with the Hessian, each a central difference of two gradients.
    """
    names = list(mixture)
    logits = {name: mixture[name].detach().double().log() for name in names}
    sizes = [len(logits[name]) for name in names]

    def slope(shift: Tensor) -> Tensor:
        variable = shift.clone().requires_grad_()
        parts = zip(names, torch.split(variable, sizes), strict=True)
        soft = {name: (logits[name] + part).softmax(0).float() for name, part in parts}
        return torch.autograd.grad(loss(soft), variable)[0]

    def product(direction: Tensor) -> Tensor:
        return (slope(_REACH * direction) - slope(-_REACH * direction)) / (2 * _REACH)

    with frozen(weights):
        return _largest(product, sum(sizes), seed, products)


def _largest(product: Callable[[Tensor], Tensor], size: int, seed: int, products: int) -> float:
    """The largest eigenvalue of a symmetric matrix of which only products are known (Lanczos 1950), every vector made orthogonal anew."""
    vector = torch.from_numpy(np.random.default_rng(seed).standard_normal(size))
    basis: list[Tensor] = []
    images: list[Tensor] = []
    while len(basis) < min(products, size) and (length := float(vector.norm())) > 1e-9:
        basis.append(vector / length)
        images.append(product(basis[-1]))
        vector = images[-1]
        for _ in range(2):  # once is not enough in finite precision
            for known in basis:
                vector = vector - (known @ vector) * known
    projected = torch.stack(basis) @ torch.stack(images).T
    return float(torch.linalg.eigvalsh((projected + projected.T) / 2)[-1])
