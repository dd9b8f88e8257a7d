"""Derivatives with respect to a mixture, against autograd and finite differences on functions small enough to write down."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from nas.training.mixing import curvature, gradient, unrolled_gradient

MIXTURE = {"a": torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), "b": torch.tensor([0.6, 0.4], dtype=torch.float64)}
NAMES = list(MIXTURE)


def made(seed: int = 0) -> tuple[list[nn.Parameter], Tensor, Tensor]:
    """Two weights, one of them not used by anything, and two matrices that couple weights and mixture."""
    generator = torch.Generator().manual_seed(seed)
    used = nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64))
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    return [used, unused], *(torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def flat(mixture: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([mixture[name] for name in NAMES])


def split(vector: Tensor) -> dict[str, Tensor]:
    return dict(zip(NAMES, vector.split([3, 2]), strict=True))


def test_the_unrolled_gradient_is_that_of_the_loss_after_a_step() -> None:
    """The training loss is quadratic in the weights with a slope that the mixture scales, so the difference is exact but for rounding."""
    weights, first, second = made()
    rate = 0.3

    def training(mixture: Mapping[str, Tensor], at: Tensor | None = None) -> Tensor:
        moved = weights[0] if at is None else at
        return ((moved - first @ flat(mixture)) ** 2).sum() * (1 + flat(mixture)[0])

    def architecture(mixture: Mapping[str, Tensor], at: Tensor | None = None) -> Tensor:
        moved = weights[0] if at is None else at
        return torch.sin(moved @ (second @ flat(mixture))) + (moved**2).sum()

    vector = flat(MIXTURE).clone().requires_grad_()
    start = weights[0].detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(training(split(vector), start), start, create_graph=True)
    (expected,) = torch.autograd.grad(architecture(split(vector), start - rate * slope), vector)

    before = [weight.detach().clone() for weight in weights]
    found = unrolled_gradient(training, architecture, MIXTURE, weights, rate)
    torch.testing.assert_close(flat(found), expected, rtol=1e-5, atol=1e-8)
    assert all(torch.equal(weight, kept) and weight.grad is None for weight, kept in zip(weights, before, strict=True))
    plain = gradient(lambda mixture: architecture(mixture), MIXTURE, weights)
    assert not torch.allclose(flat(plain), expected, rtol=1e-2), "or the second order would not matter here"


def test_the_first_order_computes_no_gradient_of_weights() -> None:
    weights, first, _ = made()
    needed: list[bool] = []

    def loss(mixture: Mapping[str, Tensor]) -> Tensor:
        needed.append(any(weight.requires_grad for weight in weights))
        return (weights[0] @ (first @ flat(mixture))) ** 2

    found = flat(gradient(loss, MIXTURE, weights))
    for index in range(5):
        step = 1e-6 * torch.eye(5, dtype=torch.float64)[index]
        numeric = (loss(split(flat(MIXTURE) + step)) - loss(split(flat(MIXTURE) - step))) / 2e-6
        assert float(found[index]) == pytest.approx(float(numeric.detach()), rel=1e-6)
    assert not needed[0]
    assert all(weight.requires_grad and weight.grad is None for weight in weights)


def test_a_choice_that_the_loss_does_not_use_has_no_slope() -> None:
    weights, *_ = made()
    found = gradient(lambda mixture: mixture["a"].sum() * weights[0].sum(), MIXTURE, weights)
    assert torch.equal(found["b"], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_curvature_is_the_largest_eigenvalue_of_the_hessian_in_logits(sign: float) -> None:
    weights, first, _ = made()

    def loss(mixture: Mapping[str, Tensor]) -> Tensor:
        return sign * ((first.to(flat(mixture).dtype) @ flat(mixture)) ** 2).sum()

    logits = flat(MIXTURE).log()
    hessian = torch.autograd.functional.hessian(
        lambda shift: loss({name: part.softmax(0) for name, part in split(logits + shift).items()}), torch.zeros(5, dtype=torch.float64)
    )
    expected = float(torch.linalg.eigvalsh(hessian)[-1])
    assert curvature(loss, MIXTURE, weights, seed=0, products=5) == pytest.approx(expected, rel=0.02, abs=1e-3)


def test_a_single_path_has_no_curvature() -> None:
    single = {"a": torch.tensor([0.0, 1.0, 0.0]), "b": torch.tensor([1.0, 0.0])}
    weights, first, _ = made()
    assert curvature(lambda mixture: (first.float() @ flat(mixture)).sum(), single, weights, seed=0, products=4) == 0.0
