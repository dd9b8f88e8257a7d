"""Zero-cost proxies: what one minibatch says about a network that has not been trained. Higher is taken to be better.

Every measure is a function of (network, inputs, targets, loss). Inputs are what the network takes, of shape (batch, ...), on
the network's device; targets are what the loss takes. It measures a copy: the network stays as it was, gradients, statistics
and modes included. Normalisation uses the statistics of the minibatch, as in training, and dropout is off, so equal
arguments give equal values. Where a definition sums over the weights, these are all tensors of two or more dimensions: those
of convolutions and linear layers, without biases and normalisation.

All of them follow the size of the network, so `parameters` and `flops` are here to be compared with. None is an accuracy.
"""

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.training.proxy_names import Name, ProxyError

Loss = Callable[[Tensor, Tensor], Tensor]
"""From outputs and targets to a scalar, such as `Task.loss` without smoothing."""
Measure = Callable[[nn.Module, Tensor, Tensor, Loss], float]
"""A zero-cost proxy."""

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_NORMALISATIONS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LocalResponseNorm),
)
_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU)
_JACOBIAN_MARGIN = 1e-5


def synflow(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return the sum of |weight x dR / dweight|, where R is the sum of the outputs for one example of ones.

    All parameters are replaced by their absolute values, normalisation is left out, and numbers are float64, since the
    gradients of deep networks leave the range of float32. Only the shape of one input is used.
    Tanaka, Kunin, Yamins and Ganguli 2020, Pruning neural networks without any data by iteratively conserving synaptic flow,
    equation 2; summed over a network by Abdelfattah, Mehrotra, Dudziak and Lane 2021, Zero-cost proxies for lightweight NAS.
    Raises ProxyError when the value is not finite or there are no weights.
    """
    terms = [(weight * gradient).abs().sum() for weight, gradient in _flow(network, inputs, "synflow")]
    return _finite("synflow", torch.stack(terms).sum())


def logsynflow(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return the sum of |weight x log(1 + |dR / dweight|)|, with everything else as in `synflow`.

    The logarithm keeps the few largest gradients from being the whole sum.
    Cavagnero, Robbiano, Caputo and Averta 2023, FreeREA: Training-free evolution-based architecture search, section 3.
    Raises ProxyError when the value is not finite or there are no weights.
    """
    terms = [(weight * gradient.abs().log1p()).abs().sum() for weight, gradient in _flow(network, inputs, "logsynflow")]
    return _finite("logsynflow", torch.stack(terms).sum())


def naswot(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return log |K|, where K[i, j] counts the rectifiers that are on for both examples i and j, or off for both.

    A rectifier is one output of an nn.ReLU or one of its kin; they must be modules to be seen.
    Mellor, Turner, Storkey and Crowley 2021, Neural architecture search without training, equation 2.
    Raises ProxyError when there is no rectifier, or when K is singular because some examples cannot be told apart.
    """
    subject = _copy(network)
    kernel = torch.zeros(len(inputs), len(inputs), dtype=torch.float64, device=inputs.device)
    rectifiers = [module for module in subject.modules() if isinstance(module, _RECTIFIERS)]
    if not rectifiers:
        raise ProxyError("proxy 'naswot' reads the on and off of nn.ReLU modules, and this network has none: choose another measure")

    def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        # Signs of +1 and -1 make one product count both agreements; the sums are whole numbers, so their order is no matter.
        signs = (given[0] > 0).flatten(1).float().mul_(2).sub_(1)
        kernel.add_((signs @ signs.T).double().add_(signs.shape[1]).div_(2))

    for module in rectifiers:
        module.register_forward_pre_hook(count)
    with torch.no_grad():
        _run(subject, inputs)
    kernel = kernel.cpu()
    if int(torch.linalg.matrix_rank(kernel, hermitian=True)) < len(kernel):
        raise ProxyError("proxy 'naswot' is minus infinity: the network's rectifiers do not tell the examples of the minibatch apart")
    return _finite("naswot", torch.linalg.slogdet(kernel).logabsdet)


def jacob_cov(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return minus the sum over v of log(v + k) + 1 / (v + k), with k = 0.00001.

    The v are the eigenvalues of the correlation matrix, over examples, of the gradients of the summed outputs by the inputs.
    Mellor, Turner, Storkey and Crowley 2020, Neural architecture search without training, first version of the preprint,
    as used by Abdelfattah, Mehrotra, Dudziak and Lane 2021, Zero-cost proxies for lightweight NAS.
    Raises ProxyError when the inputs are whole numbers, or when a gradient is constant so that there is no correlation.
    """
    if not inputs.is_floating_point():
        raise ProxyError(f"proxy 'jacob_cov' needs the gradient by the inputs, and these are {inputs.dtype}: choose another measure")
    moving = inputs.detach().clone().requires_grad_(True)
    outputs = _run(_copy(network), moving)
    gradient = torch.autograd.grad(outputs.sum(), moving, allow_unused=True)[0] if outputs.requires_grad else None
    if gradient is None:
        raise ProxyError("proxy 'jacob_cov' is not defined: the outputs do not depend on the inputs")
    correlation = torch.corrcoef(gradient.flatten(1).double().cpu())
    if not correlation.isfinite().all():
        raise ProxyError("proxy 'jacob_cov' is not a finite number: the gradient of an example is constant or not finite")
    shifted = torch.linalg.eigvalsh(correlation).clamp(min=0) + _JACOBIAN_MARGIN
    return _finite("jacob_cov", -(shifted.log() + 1 / shifted).sum())


def snip(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return the sum of |weight x dL / dweight|, where L is the loss of the minibatch.

    Lee, Ajanthan and Torr 2019, SNIP: Single-shot network pruning based on connection sensitivity, equation 5 before it is
    normalised; summed over a network by Abdelfattah et al. 2021.
    Raises ProxyError when the value is not finite or there are no weights.
    """
    terms = [(weight * gradient).abs().sum() for weight, gradient in _loss_gradients(network, inputs, targets, loss, "snip")]
    return _finite("snip", torch.stack(terms).sum())


def grad_norm(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return the sum over weight tensors of the Euclidean norm of dL / dweight, where L is the loss of the minibatch.

    Abdelfattah, Mehrotra, Dudziak and Lane 2021, Zero-cost proxies for lightweight NAS, section 3.1.
    Raises ProxyError when the value is not finite or there are no weights.
    """
    terms = [gradient.norm() for _, gradient in _loss_gradients(network, inputs, targets, loss, "grad_norm")]
    return _finite("grad_norm", torch.stack(terms).sum())


def parameters(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return the number of parameters: the first thing that a proxy has to beat."""
    return float(sum(parameter.numel() for parameter in network.parameters()))


def flops(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Return the floating-point operations of one example forward, counted as in nas.training.cost."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        _run(_copy(network).eval(), inputs[:1])
    return float(counter.get_total_flops())


MEASURES: Final[Mapping[Name, Measure]] = MappingProxyType(
    {
        "synflow": synflow,
        "logsynflow": logsynflow,
        "naswot": naswot,
        "jacob_cov": jacob_cov,
        "snip": snip,
        "grad_norm": grad_norm,
        "parameters": parameters,
        "flops": flops,
    }
)
"""Every measure by its name."""


def _copy(network: nn.Module) -> nn.Module:
    """A copy in training mode that draws nothing at random and needs no gradients."""
    subject = copy.deepcopy(network).train().requires_grad_(False)
    for module in subject.modules():
        if isinstance(module, _DROPOUTS):
            module.eval()
    return subject


def _run(network: nn.Module, inputs: Tensor) -> Tensor:
    """The outputs; should a layer of a network's own draw random numbers after all, they are the same every time."""
    with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
        torch.default_generator.manual_seed(0)
        if inputs.device.type == "cuda":
            torch.cuda.manual_seed_all(0)
        outputs: Tensor = network(inputs)
    return outputs


def _flow(network: nn.Module, inputs: Tensor, name: str) -> list[tuple[Tensor, Tensor]]:
    """Absolute weights with the gradient of the summed outputs for an example of ones."""
    subject = _copy(network).double()
    for place, module in list(subject.named_modules(remove_duplicate=False)):
        if isinstance(module, _NORMALISATIONS):
            subject.set_submodule(place, nn.Identity())
    for parameter in subject.parameters():
        parameter.abs_()
    ones = torch.ones_like(inputs[:1])
    return _pairs(subject, partial(_total, subject, ones.double() if ones.is_floating_point() else ones), name)


def _total(network: nn.Module, inputs: Tensor) -> Tensor:
    return _run(network, inputs).sum()


def _loss_gradients(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, name: str) -> list[tuple[Tensor, Tensor]]:
    """Weights with the gradient of the loss of a minibatch."""
    subject = _copy(network)
    return _pairs(subject, lambda: loss(_run(subject, inputs).float(), targets), name)


def _pairs(network: nn.Module, value: Callable[[], Tensor], name: str) -> list[tuple[Tensor, Tensor]]:
    """The weights that a value depends on, with its gradient by each, in float64 so that sums lose nothing."""
    weights = [parameter.requires_grad_(True) for parameter in network.parameters() if parameter.ndim > 1]
    result = value()
    gradients = torch.autograd.grad(result, weights, allow_unused=True) if weights and result.requires_grad else ()
    pairs = [(weight.detach(), gradient) for weight, gradient in zip(weights, gradients, strict=False) if gradient is not None]
    if not pairs:
        raise ProxyError(f"proxy {name!r} sums over weights, and the outputs of this network depend on none: choose another measure")
    return [(weight.double(), gradient.double()) for weight, gradient in pairs]


def _finite(name: str, value: Tensor) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ProxyError(f"proxy {name!r} is {number}, not a finite number: the network's initial weights leave nothing to measure")
    return number
