"""What every space must hold, whichever files the folder has."""

import copy
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from small_images import random_images, task_of
from torch import nn

from export.to_onnx import to_onnx
from nas.architecture import Architecture, Choices
from nas.load import load, names
from nas.spaces.base import SearchSpace
from nas.tasks.image_classification import ImageClassification

SMALL: dict[str, dict[str, Any]] = {
    "cell": {"widths": (4, 8), "cells": 1},
    "chain": {"widths": ((4, 6), (6, 8))},
}
"""Settings that keep the contract quick; a space that is not named is tried as it is."""
SHAPES = [(7, 7, 1), (28, 28, 3), (8, 8, 1), (5, 9, 3), (1, 1, 1)]
SPACES = names("spaces")


def small(name: str) -> SearchSpace:
    space: SearchSpace = load("spaces", name)(**SMALL.get(name, {}))
    return space


def sampled(space: SearchSpace, task: ImageClassification, count: int, seed: int = 0) -> list[Architecture]:
    choices, rng = space.choices(task), np.random.default_rng(seed)
    return [choices.sample(rng) for _ in range(count)]


def connected(network: nn.Module, task: ImageClassification) -> bool:
    """Whether the input reaches the output: a cell of `none` is allowed, and its stem then learns nothing."""
    images = task.prepare()(random_images(4, task.description.input_shape)).requires_grad_()
    outputs = network.train()(images)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), images, allow_unused=True)
    return gradient is not None


@pytest.mark.parametrize("name", SPACES)
def test_choices_are_stable_and_cost_no_memory(name: str) -> None:
    space, task = load("spaces", name)(), task_of()
    made: list[torch.device] = []
    original = nn.Module.register_parameter

    def noting(module: nn.Module, key: str, parameter: nn.Parameter | None) -> None:
        made.extend([parameter.device] if parameter is not None else [])
        original(module, key, parameter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "register_parameter", noting)
        choices = space.choices(task)
    assert {device.type for device in made} == {"meta"}
    assert choices == space.choices(task) == load("spaces", name)().choices(task)
    assert isinstance(choices, Choices)
    assert len(choices) > 0
    assert choices.size > 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_every_sampled_architecture_trains_a_step(name: str, shape: tuple[int, int, int]) -> None:
    space, task = small(name), task_of(shape, classes=3)
    images, targets = task.prepare()(random_images(6, shape)), torch.arange(6) % 3
    for seed, architecture in enumerate(sampled(space, task, 12)):
        torch.manual_seed(seed)
        network = space.build(architecture, task)
        reaches = connected(network, task)
        network.zero_grad()
        loss = task.loss(network(images), targets, 0.1)
        assert loss.isfinite()
        loss.backward()
        if reaches:
            assert [key for key, weight in network.named_parameters() if weight.grad is None] == []
        assert any(weight.grad is not None for weight in network.parameters())
        outputs = network.eval()(images[:1])
        assert outputs.shape == (1, 3)
        assert outputs.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "exporter", "count"), [((7, 7, 1), "torchscript", 5), ((10, 6, 3), "torchscript", 3), ((8, 8, 1), "dynamo", 1)]
)
@pytest.mark.parametrize("name", SPACES)
def test_every_sampled_architecture_exports(name: str, shape: tuple[int, int, int], exporter: str, count: int, tmp_path: Path) -> None:
    space, task = small(name), task_of(shape, classes=3)
    images = random_images(5, shape)
    for index, architecture in enumerate(sampled(space, task, count, seed=1)):
        torch.manual_seed(index)
        network = space.build(architecture, task)
        network(task.prepare()(images))  # statistics of the normalisations move away from 0 and 1
        module, path = task.deployable(network.eval()), tmp_path / f"{index}.onnx"
        to_onnx(module, task.example(1), path, outputs=task.output_names, metadata={}, exporter=exporter)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        with torch.no_grad():
            expected = module(images)
        for ours, theirs in zip(expected, session.run(None, {"images": images.numpy()}), strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", SPACES)
def test_architectures_of_one_form_are_one_function(name: str) -> None:
    """Networks of one form take the same weights, in some order of their layers, and then give the same outputs."""
    space, task = small(name), task_of(classes=3)
    groups: dict[str, list[Architecture]] = {}
    for architecture in sampled(space, task, 300, seed=2):
        assert space.canonical(architecture, task) == space.canonical(Architecture(dict(reversed(list(architecture.items())))), task)
        groups.setdefault(space.canonical(architecture, task), []).append(architecture)
    twins = [group[:2] for group in groups.values() if len(group) > 1 and group[0] != group[1]]
    changed = [unasked for group in list(groups.values())[:8] if (unasked := with_unasked_changed(space, task, group[0])) is not None]
    assert len(twins) + len(changed) > 0
    for first, second in [*twins, *changed][:25]:
        assert space.canonical(first, task) == space.canonical(second, task)
        one, other = space.build(first, task), space.build(second, task)
        assert sorted(tuple(weight.shape) for weight in one.parameters()) == sorted(tuple(weight.shape) for weight in other.parameters())
        if one.state_dict().keys() == other.state_dict().keys():
            other.load_state_dict(one.state_dict())
            images = task.prepare()(random_images(3))
            if equal_names_suffice(name):
                torch.testing.assert_close(one.eval()(images), other.eval()(images))


def equal_names_suffice(name: str) -> bool:
    """In a cell, the edge a convolution sits on is only a name; tests/nas/spaces/test_cell.py matches them properly."""
    return name != "cell"


def with_unasked_changed(
    space: SearchSpace, task: ImageClassification, architecture: Architecture
) -> tuple[Architecture, Architecture] | None:
    for other in space.choices(task).neighbours(architecture):
        if space.canonical(other, task) == space.canonical(architecture, task):
            return architecture, other
    return None


@pytest.mark.parametrize("name", SPACES)
def test_a_wrong_answer_is_named(name: str) -> None:
    space, task = small(name), task_of()
    architecture = sampled(space, task, 1)[0]
    choice = space.choices(task)[0]
    for read in (space.build, space.canonical):
        with pytest.raises(ValueError, match=rf"{re.escape(choice.name)} is 'nonsense': pick one of .*{re.escape(choice.options[0])}"):
            read(architecture.replace(choice.name, "nonsense"), task)
        with pytest.raises(KeyError, match=re.escape(choice.name)):
            read({key: option for key, option in architecture.items() if key != choice.name}, task)


@pytest.mark.parametrize("name", SPACES)
def test_equal_seeds_build_equal_weights(name: str) -> None:
    space, task = small(name), task_of()
    architecture = sampled(space, task, 1)[0]
    built = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        built.append(space.build(architecture, task).state_dict())
    assert all(torch.equal(built[0][key], built[1][key]) for key in built[0])
    assert not all(torch.equal(built[0][key], built[2][key]) for key in built[0])


def decides_on_numbers(space: SearchSpace, task: ImageClassification) -> bool:
    return any(all(option.isdecimal() for option in choice.options) for choice in space.choices(task))


@pytest.mark.parametrize("name", SPACES)
def test_a_space_shares_weights_or_refuses_in_a_sentence(name: str) -> None:
    space, task = small(name), task_of(classes=3)
    if decides_on_numbers(space, task):
        with pytest.raises(ValueError, match=r"choice '.*' picks a number, which a supernet cannot mix: use "):
            space.supernet(task)
        return
    supernet = space.supernet(task)
    assert supernet.choices == space.choices(task)
    supernet.set_architecture(sampled(space, task, 1)[0])
    assert supernet(task.prepare()(random_images(2))).shape == (2, 3)


@pytest.mark.parametrize("name", SPACES)
def test_settings_are_described_and_strict(name: str) -> None:
    kind = load("spaces", name)
    with pytest.raises(ValidationError, match="channel_count"):
        kind(channel_count=3)
    for field, info in kind.model_fields.items():
        assert info.description, f"{field} says what it is"
    module = inspect.getmodule(kind)
    assert module is not None
    assert re.search(r"\b(19|20)\d\d\b", module.__doc__ or ""), "the source is cited with its year"
    assert kind.__doc__


@pytest.mark.parametrize("name", SPACES)
def test_a_deep_copy_is_the_same_network(name: str) -> None:
    space, task = small(name), task_of()
    network = space.build(sampled(space, task, 1)[0], task).eval()
    images = task.prepare()(random_images(2))
    assert torch.equal(copy.deepcopy(network)(images), network(images))
