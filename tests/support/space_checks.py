"""What tests of several spaces ask of a network: which layers run, whose weights fit whom, and whether something is learned."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from nas.architecture import Architecture, Choices
from nas.data.dataset import Dataset
from nas.spaces.base import SearchSpace
from nas.tasks.image_classification import ImageClassification
from nas.testing.images import inputs_of
from nas.testing.networks import copy_in_order, layers_run, same_function, scramble

__all__ = [
    "assert_forms_are_functions",
    "assert_loss_falls",
    "assert_mixture_learns",
    "assert_single_paths_match",
    "copy_in_order",
    "inputs_of",
    "layers_run",
    "moved_gaps",
    "same_function",
    "scramble",
]


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
