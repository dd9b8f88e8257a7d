"""What tests of several spaces ask of a network: which layers run, whose weights fit whom, and whether something is learned."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from small_images import random_images
from torch import Tensor, nn

from nas.architecture import Architecture, Choices
from nas.data.dataset import Dataset
from nas.spaces.base import SearchSpace
from nas.tasks.image_classification import ImageClassification


def inputs_of(task: ImageClassification, count: int = 4) -> Tensor:
    """Random images as a network sees them."""
    return task.prepare()(random_images(count, task.description.input_shape))


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


def same_function(first: nn.Module, second: nn.Module, inputs: Tensor) -> bool:
    """Whether two networks give equal outputs, and draw alike in training, once the second has the first one's weights in order."""
    scramble(first)
    if not copy_in_order(first, second, inputs):
        return False
    found = []
    for network in (first, second):
        torch.manual_seed(1)
        found.append((network.eval()(inputs), network.train()(inputs)))
    return all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*found, strict=True))


def assert_single_paths_match(space: SearchSpace, task: ImageClassification, architectures: Sequence[Architecture]) -> None:
    """A path of the supernet computes what the stand-alone network of its weights computes."""
    torch.manual_seed(0)
    supernet, inputs = space.supernet(task), inputs_of(task)
    for architecture in architectures:
        supernet.set_architecture(architecture)
        assert same_function(supernet, space.build(architecture, task), inputs), architecture


def assert_mixture_learns(space: SearchSpace, task: ImageClassification) -> None:
    """A soft architecture gets a gradient at every option of every decision, and all weights get one too."""
    torch.manual_seed(0)
    supernet, inputs = space.supernet(task), inputs_of(task, 8)
    mixture = {choice.name: torch.full((len(choice.options),), 1 / len(choice.options), requires_grad=True) for choice in supernet.choices}
    supernet.set_mixture(mixture)
    task.loss(supernet.train()(inputs), torch.arange(8) % len(task.classes), 0.0).backward()
    assert [name for name, weights in mixture.items() if weights.grad is None or not weights.grad.any()] == []
    assert [name for name, weight in supernet.named_parameters() if weight.grad is None] == []


def assert_loss_falls(space: SearchSpace, architecture: Mapping[str, str], digits: Dataset, *, steps: int = 20) -> None:
    """A few steps on the digits bring the loss down."""
    task = ImageClassification().bind(digits.description)
    torch.manual_seed(0)
    network = space.build(architecture, task).train()
    inputs = task.prepare()(torch.tensor(digits.inputs("fit")[:64]))
    targets = torch.tensor(digits.targets("fit")[:64])
    optimizer, losses = torch.optim.Adam(network.parameters(), 0.02), []
    for _ in range(steps):
        loss = task.loss(network(inputs), targets, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0], losses


def moved_gaps(architecture: Architecture, slots: Sequence[str], choices: Choices, rng: np.random.Generator) -> Architecture:
    """The same blocks in the same order on other places of `slots`; what is inside skipped ones is drawn anew."""
    answers = dict(architecture)

    def inside(slot: str) -> list[str]:
        return [name.removeprefix(slot) for name in answers if name == slot or name.startswith(f"{slot}.")]

    kept = [slot for slot in slots if answers[slot] != "skip"]
    places = sorted(rng.choice(len(slots), len(kept), replace=False).tolist())
    drawn = dict(choices.sample(rng))
    moved = {slot + part: drawn[slot + part] for slot in slots for part in inside(slot)} | dict.fromkeys(slots, "skip")
    for place, slot in zip(places, kept, strict=True):
        moved |= {slots[place] + part: architecture[slot + part] for part in inside(slot)}
    return Architecture({**answers, **moved})


def assert_forms_are_functions(space: SearchSpace, task: ImageClassification, slots: Sequence[Sequence[str]], count: int) -> None:
    """Blocks on other places are one form and one function; a mutant is of one form exactly when it is the same function."""
    choices, rng, inputs = space.choices(task), np.random.default_rng(0), inputs_of(task)
    merged = 0
    torch.manual_seed(0)
    for _ in range(count):
        first = choices.sample(rng)
        for slot in (slot for stage in slots for slot in stage):
            first = first.replace(slot, "skip") if rng.random() < 0.4 else first
        second = first
        for stage in slots:
            second = moved_gaps(second, stage, choices, rng)
        assert space.canonical(first, task) == space.canonical(second, task)
        mutant = choices.mutate(second, rng)
        network = space.build(first, task)
        for other in (second, mutant):
            equal = space.canonical(first, task) == space.canonical(other, task)
            assert same_function(network, space.build(other, task), inputs) == equal, (first, other)
            merged += equal and other != first
    assert merged > count / 2
