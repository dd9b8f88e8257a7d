"""Mixed edges of a cell, computed together: what options share at a node is done once.

A supernet that runs every option for itself repeats work: each option of each edge leaving a node applies the same ReLU and
the same pooling, and keeps a weighted copy of its output. Here the edges that leave one node are taken together:

- leading layers without weights (ReLU, pooling) run once for all options that begin with them;
- convolutions of one shape that follow are one convolution with their filters side by side, and their normalisations are one;
- a weight of an option that ends in a batch normalisation becomes part of its scale and shift, w (g x + b) = (w g) x + (w b),
  so no weighted output is made or kept, and the gradient of the weight comes out of the normalisation's own backward.

It reads the options as they are (nn.Sequential of plain layers); an option of any other form runs as it is, times its weight.
Hooks on layers inside of shared options do not run.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class Zero(nn.Module):
    """The option that carries nothing."""

    def forward(self, features: Tensor) -> Tensor:
        """Zeros of the shape of the features."""
        return torch.zeros_like(features)


@final
class Mixed(nn.Module):
    """The options of one decision at one place; their outputs are summed by weight."""

    def __init__(self, name: str, options: Mapping[str, Callable[[], nn.Module]]) -> None:
        super().__init__()
        self.name = name
        self.options = nn.ModuleList([make() for make in options.values()])
        # Tuples, because a module would adopt a bare Parameter as a weight of its own. No weights: one option, as it is.
        self.running: tuple[tuple[Tensor, ...] | None, tuple[int, ...]] | None = None

    def live(self) -> list[tuple[nn.Module, Tensor | None]]:
        """Return the options that run now, each with its weight, None for exactly 1. Raises RuntimeError before a mixture is set."""
        if self.running is None:
            raise RuntimeError(f"the supernet has no mixture for {self.name!r}: call set_mixture first")
        weights, live = self.running
        return [(self.options[index], None if weights is None else weights[index]) for index in live]

    def forward(self, features: Tensor) -> Tensor:
        """Features in, the weighted sum of the live options' outputs out. Raises RuntimeError before a mixture is set."""
        return total([Term(option(features), weight) for option, weight in self.live()])

    def __getstate__(self) -> dict[str, object]:
        """A copy runs the same mixture, but no gradients flow from it to the original's."""
        state = self.__dict__.copy()
        if self.running is not None and self.running[0] is not None:
            state["running"] = tuple(weight.detach() for weight in self.running[0]), self.running[1]
        return state


class Term(NamedTuple):
    """What is added into a node: a value and the weight it still has to be multiplied with, None for 1."""

    value: Tensor
    weight: Tensor | None


def carries(edge: nn.Module) -> bool:
    """Whether an edge adds anything to its target under the current mixture. Raises RuntimeError before a mixture is set."""
    options = [option for option, _ in edge.live()] if isinstance(edge, Mixed) else [edge]
    return not all(isinstance(option, Zero) for option in options)


def flow(inputs: Mapping[int, Tensor], edges: Mapping[tuple[int, int], Mixed]) -> dict[int, Tensor]:
    """Return the values of all nodes that are reached: each is the sum of what its edges (source, target) bring, source < target.

    `inputs` are the values of the nodes that no edge leads to. All edges are computed: pass only those that carry something
    and whose target is needed. Raises RuntimeError before a mixture is set.
    """
    nodes, arriving = dict(inputs), dict[int, list[Term]]()
    for source in sorted({source for source, _ in edges}):
        if source in arriving:
            nodes[source] = total(arriving.pop(source))
        for target, terms in leave(nodes[source], {target: edge for (start, target), edge in edges.items() if start == source}).items():
            arriving.setdefault(target, []).extend(terms)
    return nodes | {target: total(terms) for target, terms in arriving.items()}


def total(terms: Sequence[Term]) -> Tensor:
    """Return the weighted sum of terms of one shape, at least one."""
    first, *others = sorted(terms, key=lambda term: term.weight is not None)
    found = first.value if first.weight is None else first.value * first.weight
    for number, (value, weight) in enumerate(others):
        if number == 0:
            found = found + value if weight is None else torch.addcmul(found, value, weight)
        elif weight is None:
            found.add_(value)  # in place from the second sum on: that one is nobody else's, and no backward pass keeps it
        else:
            found.addcmul_(value, weight)
    return found


def leave(features: Tensor, edges: Mapping[int, Mixed]) -> dict[int, list[Term]]:
    """Return what the edges that leave a node bring to each target; `features` is the node's value (batch, channels, height, width)."""
    terms: dict[int, list[Term]] = {target: [] for target in edges}
    prefixes, groups = _Prefixes(features), dict[Hashable, list[_Branch]]()
    for target, edge in edges.items():
        for option, weight in edge.live():
            if isinstance(option, Zero):
                continue
            value, layers = prefixes.enter(option)
            branch = _branch(target, value, layers, weight)
            if branch is None:
                terms[target].append(_alone(value, layers, weight))
            else:
                groups.setdefault(branch.kind, []).append(branch)
    for targets, value in _sums(groups.values()).items():
        for target, part in zip(targets, value.chunk(len(targets), dim=1), strict=True):
            terms[target].append(Term(part, None))
    return terms


@final
class _Prefixes:
    """The values behind leading layers that have no weights, each computed once."""

    def __init__(self, features: Tensor) -> None:
        self._values: dict[tuple[Hashable, ...], Tensor] = {(): features}

    def enter(self, option: nn.Module) -> tuple[Tensor, tuple[nn.Module, ...]]:
        """Return the value behind an option's leading layers, and the layers that are left."""
        path: tuple[Hashable, ...] = ()
        layers = tuple(option) if type(option) is nn.Sequential else (option,)
        for number, layer in enumerate(layers):
            kind = _weightless(layer)
            if kind is None:
                return self._values[path], layers[number:]
            if not isinstance(layer, nn.Identity):
                before, path = path, (*path, kind)
                if path not in self._values:
                    self._values[path] = _apply(layer, self._values[before])
        return self._values[path], ()


def _apply(layer: nn.Module, value: Tensor) -> Tensor:
    # Other options read the value too, so a ReLU that works in place must not.
    output: Tensor = torch.relu(value) if isinstance(layer, nn.ReLU) else layer(value)
    return output


def _weightless(layer: nn.Module) -> Hashable:
    """What a layer computes, if that is the same for all layers of its settings; otherwise None."""
    if isinstance(layer, nn.Identity | nn.ReLU):
        return (type(layer),)
    if isinstance(layer, nn.AvgPool2d):
        settings = layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad, layer.divisor_override
        return type(layer), *settings
    if isinstance(layer, nn.MaxPool2d) and not layer.return_indices:
        return type(layer), layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
    return None


class _Branch(NamedTuple):
    """An option that ends in a convolution and its normalisation; those of one kind can be computed side by side."""

    target: int
    value: Tensor
    convolution: nn.Conv2d
    norm: nn.BatchNorm2d
    weight: Tensor | None

    @property
    def kind(self) -> Hashable:
        """What branches must share to be computed together: their input, shapes and rules."""
        layer, norm = self.convolution, self.norm
        shapes = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation
        rules = norm.eps, norm.momentum, norm.affine, norm.track_running_stats, norm.running_mean is None, norm.training
        return id(self.value), self.weight is None, shapes, rules


def _branch(target: int, value: Tensor, layers: tuple[nn.Module, ...], weight: Tensor | None) -> _Branch | None:
    match layers:
        case (nn.Conv2d(groups=1, bias=None, padding_mode="zeros") as convolution, nn.BatchNorm2d() as norm):
            return _Branch(target, value, convolution, norm, weight)
        case _:
            return None


def _alone(value: Tensor, layers: Sequence[nn.Module], weight: Tensor | None) -> Term:
    last = layers[-1] if layers else None
    folds = weight is not None and isinstance(last, nn.BatchNorm2d)
    for number, layer in enumerate(layers[:-1] if folds else layers):
        # Other options read the value too, so a first layer that works in place gets a copy.
        value = layer(value.clone() if number == 0 and getattr(layer, "inplace", False) else value)
    if weight is not None and isinstance(last, nn.BatchNorm2d):
        return Term(_normalised(value, [last], [weight]), None)
    return Term(value, weight)


def _sums(groups: Iterable[Sequence[_Branch]]) -> dict[tuple[int, ...], Tensor]:
    """Return the outputs of groups, side by side along the channels, by their targets; groups of the same targets are added."""
    found: dict[tuple[int, ...], Tensor] = {}
    for group in groups:
        targets, value = tuple(branch.target for branch in group), _together(group)
        found[targets] = found[targets].add_(value) if targets in found else value
    return found


def _together(group: Sequence[_Branch]) -> Tensor:
    """Return (batch, branches x channels, height, width)."""
    first, weights = group[0], [branch.weight for branch in group if branch.weight is not None]
    if len(group) == 1 and not weights:
        output: Tensor = first.norm(first.convolution(first.value))
        return output
    layer = first.convolution
    filters = _joined([branch.convolution.weight for branch in group])
    values = F.conv2d(first.value, filters, None, layer.stride, layer.padding, layer.dilation)
    return _normalised(values, [branch.norm for branch in group], weights)


def _normalised(values: Tensor, norms: Sequence[nn.BatchNorm2d], weights: Sequence[Tensor]) -> Tensor:
    """Normalise outputs that lie side by side, each with its own layer and times its weight, if there are weights."""
    first = norms[0]
    scale, shift = (_joined([norm.weight for norm in norms]), _joined([norm.bias for norm in norms])) if first.affine else (None, None)
    if weights:
        factors = torch.stack(list(weights)).unsqueeze(1).expand(-1, first.num_features).reshape(-1)
        scale, shift = (factors, None) if scale is None or shift is None else (scale * factors, shift * factors)
    if first.training and first.track_running_stats:
        # A momentum of 1 leaves the batch's own statistics in these.
        mean, variance = (_mean_of(first).new_zeros(values.shape[1]) for _ in range(2))
        outputs = F.batch_norm(values, mean, variance, scale, shift, True, 1.0, first.eps)
        _remember(norms, mean.chunk(len(norms)), variance.chunk(len(norms)))
        return outputs
    if first.training or first.running_mean is None:
        return F.batch_norm(values, None, None, scale, shift, True, 0.0, first.eps)
    mean, variance = _joined([_mean_of(norm) for norm in norms]), _joined([_variance_of(norm) for norm in norms])
    return F.batch_norm(values, mean, variance, scale, shift, False, 0.0, first.eps)


@torch.no_grad()
def _remember(norms: Sequence[nn.BatchNorm2d], means: Sequence[Tensor], variances: Sequence[Tensor]) -> None:
    """Update running statistics by the rule of nn.BatchNorm2d: a moving average, or the mean of all batches without a momentum."""
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    torch._foreach_add_(counts, 1)
    running = [_mean_of(norm) for norm in norms] + [_variance_of(norm) for norm in norms]
    momentum = norms[0].momentum
    if momentum is not None:
        torch._foreach_lerp_(running, [*means, *variances], momentum)
        return
    for mine, batch, count in zip(running, [*means, *variances], counts * 2, strict=True):
        mine.lerp_(batch, 1.0 / float(count))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0]


def _mean_of(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean


def _variance_of(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return norm.running_var
