"""Edges that are computed together give what each would give for itself, and what they share is done once."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from small_images import random_images, task_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas.networks.cell import CellBlock
from nas.networks.shared_edges import Mixed, Zero, carries, flow
from nas.networks.supernet import Supernet
from nas.spaces.cell import NODES, Cell
from nas.spaces.graph import live_edges

CHANNELS = 4
Options = Mapping[str, Callable[[], nn.Module]]


class Calls(TorchDispatchMode):
    """Counts the operations that reach the device, and those of convolutions that make gradients of filters."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.filter_gradients = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.names[name] += 1
        self.filter_gradients += name == "convolution_backward" and args[-1][1]
        return function(*args, **(kwargs or {}))


def convolution(kernel: int, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, groups=groups, bias=bias)


def told_not_to_track(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.track_running_stats = False
    return norm


FORMS: dict[str, Options] = {
    "cell": {
        "none": Zero,
        "skip": nn.Identity,
        "one": lambda: nn.Sequential(nn.ReLU(), convolution(1), nn.BatchNorm2d(CHANNELS)),
        "three": lambda: nn.Sequential(nn.ReLU(), convolution(3), nn.BatchNorm2d(CHANNELS)),
        "pool": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    },
    "twins": {name: lambda: nn.Sequential(nn.ReLU(), convolution(3), nn.BatchNorm2d(CHANNELS)) for name in ("a", "b")},
    "separable": {
        "in place": lambda: nn.Sequential(
            nn.ReLU(inplace=True), convolution(3, groups=4), convolution(1), nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)
        ),
        "ends normalised": lambda: nn.Sequential(nn.ReLU(), convolution(5, groups=4), convolution(1), nn.BatchNorm2d(CHANNELS)),
        "max": lambda: nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(CHANNELS, affine=False)),
        "skip": nn.Sequential,
    },
    "rules": {
        "plain": lambda: nn.Sequential(convolution(3), nn.BatchNorm2d(CHANNELS)),
        "scaleless": lambda: nn.Sequential(convolution(3), nn.BatchNorm2d(CHANNELS, affine=False)),
        "untracked": lambda: nn.Sequential(convolution(3), nn.BatchNorm2d(CHANNELS, track_running_stats=False)),
        "averaging": lambda: nn.Sequential(convolution(3), nn.BatchNorm2d(CHANNELS, momentum=None)),
        "told not to track": lambda: nn.Sequential(convolution(3), told_not_to_track(nn.BatchNorm2d(CHANNELS))),
        "biased": lambda: nn.Sequential(convolution(3, bias=True), nn.BatchNorm2d(CHANNELS)),
        "bare": lambda: convolution(3),
    },
}
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


class Graph(nn.Module):
    """Six edges of one form, computed together or one by one."""

    def __init__(self, options: Options, together: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleDict({f"{source}_{target}": Mixed("edge", options) for source, target in EDGES})
        self.together = together

    def forward(self, features: Tensor) -> Tensor:
        edges = {edge: self.edges[f"{edge[0]}_{edge[1]}"] for edge in EDGES}
        return flow({0: features}, edges)[3] if self.together else one_by_one(features, edges)  # type: ignore[arg-type]


def one_by_one(features: Tensor, edges: Mapping[tuple[int, int], Any]) -> Tensor:
    """The definition: every node is the sum over its edges of the weighted sum over their options."""
    nodes = {0: features}
    for (source, target), edge in edges.items():
        for option, weight in edge.live():
            term = option(nodes[source].clone()) * (1.0 if weight is None else weight)
            nodes[target] = nodes[target] + term if target in nodes else term
    return nodes[NODES - 1] if edges else torch.zeros_like(features)


def pair(options: Options, training: bool) -> tuple[Graph, Graph]:
    torch.manual_seed(0)
    shared, plain = (Graph(options, together).double().train(training) for together in (True, False))
    for tensor in shared.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    plain.load_state_dict(shared.state_dict())
    return shared, plain


def results(network: nn.Module, inputs: Tensor, mixture: list[Tensor]) -> dict[str, Tensor | None]:
    """Everything a step finds: outputs, gradients, and what the normalisations remember."""
    inputs = inputs.clone().requires_grad_()
    outputs = network(inputs)
    weights = dict(network.named_parameters())
    loss = (outputs / outputs.detach().abs().mean().clamp_min(1e-3)).pow(3).mean()
    found = torch.autograd.grad(loss, [inputs, *mixture, *weights.values()], allow_unused=True)
    names = ["inputs", *(f"mixture {number}" for number in range(len(mixture))), *weights]
    return dict(zip(names, found, strict=True)) | {"outputs": outputs.detach()} | dict(network.named_buffers())


def assert_equal(found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor | None]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        ours, theirs = (torch.zeros(1, dtype=torch.float64) if side[name] is None else side[name] for side in (found, expected))
        torch.testing.assert_close(
            *torch.broadcast_tensors(ours, theirs), rtol=1e-9, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_edges_together_are_the_weighted_sum(form: str, training: bool) -> None:
    shared, plain = pair(FORMS[form], training)
    count = len(FORMS[form])
    weights = [torch.rand((), dtype=torch.float64).requires_grad_() for _ in range(count)]
    for live in (tuple(range(count)), (1, count - 1)):
        for network in (shared, plain):
            for edge in network.edges.values():
                edge.running = tuple(weights), live
        for seed in range(2):
            inputs = torch.randn(5, CHANNELS, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            assert_equal(results(shared, inputs, weights), results(plain, inputs, weights))


def edge_by_edge(block: CellBlock, features: Tensor) -> Tensor:
    """A cell of a supernet as it is defined."""
    live = live_edges([(int(name[0]), int(name[2])) for name, edge in block.edges.items() if carries(edge)], NODES - 1)
    return one_by_one(features, {(source, target): block.edges[f"{source}_{target}"] for source, target in live})


def mixtures(supernet: Supernet) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    drawn = {choice.name: torch.rand(5, generator=generator, dtype=torch.float64) for choice in supernet.choices}
    hard = {name: torch.eye(5, dtype=torch.float64)[int(weights.argmax())] for name, weights in drawn.items()}
    some = {name: weights * (weights > 0.5) + torch.eye(5, dtype=torch.float64)[0] for name, weights in drawn.items()}
    nothing = {"edge_0_1": torch.eye(5, dtype=torch.float64)[0]}
    return {
        "dense": drawn,
        "hard": hard,
        "sparse": some,
        "closed": some | nothing,
        "nowhere": hard | dict.fromkeys(hard, nothing["edge_0_1"]),
    }


def disturbed(supernet: Supernet) -> Supernet:
    """Scales, shifts and statistics as after some training, when a normalisation of zeros is no longer zero."""
    for tensor in supernet.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return supernet


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["dense", "hard", "sparse", "closed", "nowhere"])
def test_a_supernet_of_cells_is_the_weighted_sum(kind: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    task = task_of((8, 8, 3))
    supernet = disturbed(Cell(widths=(4, 6), cells=2).supernet(task).double()).train(training)
    plain = copy.deepcopy(supernet)
    mixture = {name: weights.requires_grad_() for name, weights in mixtures(supernet)[kind].items()}
    inputs = task.prepare()(random_images(4, (8, 8, 3))).double()
    supernet.set_mixture(mixture)
    plain.set_mixture(mixture)
    found = results(supernet, inputs, list(mixture.values()))
    monkeypatch.setattr(CellBlock, "forward", edge_by_edge)
    assert_equal(found, results(plain, inputs, list(mixture.values())))
    reached = [part.abs().sum() > 0 for name, part in found.items() if name.startswith("mixture") and part is not None]
    assert {"dense": all, "hard": any, "sparse": any, "closed": any, "nowhere": lambda parts: not any(parts)}[kind](reached)


def one_block() -> tuple[Supernet, Tensor]:
    task = task_of((8, 8, 3))
    return Cell(widths=(4,), cells=1).supernet(task).train(), task.prepare()(random_images(4, (8, 8, 3)))


def test_what_options_share_is_done_once() -> None:
    supernet, inputs = one_block()
    supernet.set_mixture({choice.name: torch.full((5,), 0.2) for choice in supernet.choices})
    with Calls() as calls:
        supernet(inputs)
    sources = NODES - 1
    assert calls.names["relu"] == sources + 1, "one per source, one in front of the head"
    assert calls.names["avg_pool2d"] == sources
    assert calls.names["convolution"] == 2 * sources + 1, "one per source and kernel size, and the stem"
    assert calls.names["native_batch_norm"] == 2 * sources + 2


def test_a_gradient_of_the_mixture_computes_none_of_filters() -> None:
    supernet, inputs = one_block()
    mixture = {choice.name: torch.full((5,), 0.2, requires_grad=True) for choice in supernet.choices}
    supernet.set_mixture(mixture)
    loss = supernet(inputs).square().sum()
    with Calls() as calls:
        torch.autograd.grad(loss, list(mixture.values()), retain_graph=True)
    assert calls.names["convolution_backward"] > 0
    assert calls.filter_gradients == 0
    with Calls() as calls:
        loss.backward()
    assert calls.filter_gradients > 0


def test_no_output_is_kept_beside_those_of_convolutions() -> None:
    """What a step keeps grows with the convolutions and with what options share, not with the options' weighted outputs."""
    supernet, inputs = one_block()
    supernet.set_mixture({choice.name: torch.full((5,), 0.2) for choice in supernet.choices})
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and tensor.shape[0] == len(inputs) and tensor.shape[1] % CHANNELS == 0:
            kept[tensor.untyped_storage().data_ptr()] = tensor.shape[1] // CHANNELS
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = supernet(inputs)
    convolutions, sources = 2 * len(EDGES), NODES - 1
    shared = 3 * sources  # the node, its ReLU, its pooling
    around = 3  # the stem's convolution, the last node, the ReLU in front of the head
    assert outputs.requires_grad
    assert sum(kept.values()) <= convolutions + shared + around
