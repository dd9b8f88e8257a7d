"""What every space keeps to: its networks build, train, export and share weights, and equal forms are equal functions."""

import copy
import math
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.to_onnx import to_onnx
from nas.architecture import Architecture, Choices
from nas.spaces.base import SearchSpace
from nas.tasks.base import Task
from nas.testing.contract import Contract, assert_sentence, refusal
from nas.testing.images import inputs_of, random_images, task_of
from nas.testing.networks import equal_outputs, same_function, scramble
from nas.training.cost import cost

_SHAPES = [(7, 7, 1), (28, 28, 3), (8, 8, 1), (5, 9, 3), (1, 1, 1)]
_EXPORTS = [((7, 7, 1), "torchscript", 5), ((10, 6, 3), "torchscript", 3), ((8, 8, 1), "dynamo", 1)]

Pair = tuple[Architecture, Architecture]


class SpaceContract(Contract):
    """Subclass, name it Test…, write `make`; networks are small and no data are needed."""

    merges: ClassVar[bool] = False
    """Whether architectures are known to build one function, so that the contract must meet some that do."""
    ordered: ClassVar[bool] = True
    """Whether networks of one form run their layers in one order, so that weights can be handed over in it; where they do not, only
    shapes and sizes are compared, and a test of your own has to match the layers."""

    def make(self) -> SearchSpace:
        """Return a new space with settings that make small networks."""
        space: SearchSpace = super().make()
        return space

    def task(self, shape: tuple[int, int, int] = (8, 8, 1), classes: int = 10) -> Task:
        """A task of a shape (height, width, channels) without data; override it for a space that is not for image classification."""
        return task_of(shape, classes)

    def fitting(self, shape: tuple[int, int, int]) -> tuple[SearchSpace, Task]:
        """The space and a task of a shape; a space may refuse the shape, in a sentence."""
        space, task = self.make(), self.task(shape, 3)
        reason = refusal(lambda: space.choices(task))
        if reason is not None:
            assert_sentence(reason, f"the shape {shape}")
            pytest.skip(reason)
        return space, task

    def sampled(self, space: SearchSpace, task: Task, count: int, seed: int = 0) -> list[Architecture]:
        """Random architectures, not repaired: every answer to the choices builds."""
        choices, rng = space.choices(task), np.random.default_rng(seed)
        return [choices.sample(rng) for _ in range(count)]

    def test_choices_are_stable_and_cost_no_memory(self) -> None:
        """Asked twice, and of another object, the choices are the same; nothing is allocated for them."""
        space, task = self.make(), self.task()
        made: list[torch.device] = []
        original = nn.Module.register_parameter

        def noting(module: nn.Module, key: str, parameter: nn.Parameter | None) -> None:
            made.extend([parameter.device] if parameter is not None else [])
            original(module, key, parameter)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.Module, "register_parameter", noting)
            choices = space.choices(task)
        assert {device.type for device in made} <= {"meta"}, "define puts weights on a device of its own: leave the device to the caller"
        assert choices == space.choices(task) == self.make().choices(task), "define asks other choices when it is called again"
        assert isinstance(choices, Choices)
        assert choices.size > 1, f"the space holds {choices.size} architecture: let define pick among two options or more"

    @pytest.mark.parametrize("shape", _SHAPES, ids=str)
    def test_every_sampled_architecture_trains_a_step(self, shape: tuple[int, int, int]) -> None:
        """Forward, loss, backward and a single example, for images of any shape that the space takes."""
        space, task = self.fitting(shape)
        targets = torch.arange(6) % 3
        one = task.head(4)(torch.zeros(1, 4, *task.input_shape[1:])).shape
        for seed, architecture in enumerate(self.sampled(space, task, 12)):
            torch.manual_seed(seed)
            network, images = space.build(architecture, task), inputs_of(task, 6).requires_grad_()
            loss = task.loss(network.train()(images), targets, 0.1)
            assert loss.isfinite(), f"the first loss of {dict(architecture)} is {loss.item()}"
            loss.backward()  # type: ignore[no-untyped-call]
            idle = [key for key, weight in network.named_parameters() if weight.grad is None]
            reaches = images.grad is not None  # a cell of `none` is allowed, and its stem then learns nothing
            assert not reaches or idle == [], f"weights of {dict(architecture)} get no gradient: {idle}; make only what runs"
            assert any(weight.grad is not None for weight in network.parameters()), f"{dict(architecture)} has nothing to train"
            outputs = network.eval()(images[:1].detach())
            assert outputs.shape == one, f"{dict(architecture)} gives {tuple(outputs.shape)}: end with task.head, which gives {tuple(one)}"
            assert outputs.isfinite().all(), f"outputs of {dict(architecture)} are not finite"

    @pytest.mark.parametrize(("shape", "exporter", "count"), _EXPORTS)
    def test_every_sampled_architecture_exports(self, shape: tuple[int, int, int], exporter: str, count: int, tmp_path: Path) -> None:
        """To ONNX, where ONNX Runtime gives the outputs that PyTorch does, for another number of examples."""
        space, task = self.fitting(shape)
        images, options = random_images(5, shape), onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # more would wait for each other, on networks of this size
        for index, architecture in enumerate(self.sampled(space, task, count, seed=1)):
            torch.manual_seed(index)
            network = space.build(architecture, task)
            network(task.prepare()(images))  # statistics of the normalisations move away from 0 and 1
            module, path = task.deployable(network.eval()), tmp_path / f"{index}.onnx"
            to_onnx(module, task.example(1), path, outputs=task.output_names, metadata={}, exporter=exporter)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            with torch.no_grad():
                expected = module(images)
            for ours, theirs in zip(expected, session.run(None, {"images": images.numpy()}), strict=True):
                np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4, err_msg=f"the file of {dict(architecture)} computes otherwise")

    def test_architectures_of_one_form_are_one_function(self) -> None:
        """Networks of one form take the same weights and then give the same outputs."""
        space, task = self.make(), self.task(classes=3)
        pairs = twins(space, task, self.sampled(space, task, 300, seed=2))
        assert pairs or not self.merges, "no two architectures of one form were met"
        for first, second in pairs[:25]:
            rule = f"{dict(first)} and {dict(second)} have one canonical form and are not one function: canonical leaves out what matters; "
            one, other = space.build(first, task), space.build(second, task)
            sizes = [sorted(tuple(weight.shape) for weight in network.parameters()) for network in (one, other)]
            assert sizes[0] == sizes[1], f"{rule}their weights have other shapes"
            if self.ordered:
                assert same_weights_same_outputs(one, other, inputs_of(task)), f"{rule}with the same weights they give other outputs"

    def test_the_order_of_answers_means_nothing(self) -> None:
        """An architecture is a mapping: read from a journal, its choices may come in another order."""
        space, task = self.make(), self.task(classes=3)
        for architecture in self.sampled(space, task, 20):
            turned = Architecture(dict(reversed(list(architecture.items()))))
            same = space.canonical(architecture, task) == space.canonical(turned, task)
            assert same, f"canonical of {dict(architecture)} depends on the order of its answers: sort them, or go by name"

    def test_a_wrong_answer_is_named(self) -> None:
        """An unknown option and a missing answer are refused by build and canonical."""
        space, task = self.make(), self.task()
        architecture, choice = self.sampled(space, task, 1)[0], space.choices(task)[0]
        wrong = architecture.replace(choice.name, "nonsense")
        missing = {key: option for key, option in architecture.items() if key != choice.name}
        expected = rf"{re.escape(choice.name)} is 'nonsense': pick one of .*{re.escape(choice.options[0])}"
        for read in (space.build, space.canonical):
            reason = refusal(lambda read=read: read(wrong, task))  # type: ignore[misc]
            told = reason is not None and re.search(expected, reason)
            assert told, f"{read.__name__} of an unknown option says {reason!r}: say what {choice.name} is, and what there is to pick"
            reason = refusal(lambda read=read: read(missing, task))  # type: ignore[misc]
            assert reason is not None, f"{read.__name__} takes an architecture without an answer to {choice.name}: raise KeyError"
            assert choice.name in reason, f"{read.__name__} of a missing answer says {reason!r}: name {choice.name}"

    def test_equal_seeds_build_equal_weights(self) -> None:
        """The first weights are a function of PyTorch's generator."""
        space, task = self.make(), self.task()
        architecture, built = self.sampled(space, task, 1)[0], []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            built.append(space.build(architecture, task).state_dict())
        same, other = (all(torch.equal(built[0][key], state[key]) for key in state) for state in built[1:])
        assert same, "one seed built two networks: draw weights from torch's global generator alone"
        assert not other, "two seeds built one network: draw weights from torch's global generator"

    def test_a_space_shares_weights_or_refuses_in_a_sentence(self) -> None:
        """A path of the supernet is the network built alone, and every option of a mixture learns."""
        space, task = self.make(), self.task(classes=3)
        reason = refusal(lambda: space.supernet(task))
        if reason is not None:
            assert_sentence(reason, "sharing weights")
            return
        torch.manual_seed(0)
        supernet, inputs = space.supernet(task), inputs_of(task, 6)
        assert supernet.choices == space.choices(task), "the supernet asks other choices than the space"
        for architecture in self.sampled(space, task, 2, seed=4):
            supernet.set_architecture(architecture)
            same = not self.ordered or same_function(supernet, space.build(architecture, task), inputs)
            assert same, f"the path {dict(architecture)} of the supernet computes otherwise than the network built alone"
        names = {choice.name: len(choice.options) for choice in supernet.choices}
        mixture = {name: torch.full((count,), 1 / count, requires_grad=True) for name, count in names.items()}
        supernet.set_mixture(mixture)
        task.loss(supernet.train()(inputs), torch.arange(6) % 3, 0.0).backward()  # type: ignore[no-untyped-call]
        idle = [name for name, weights in mixture.items() if weights.grad is None or not weights.grad.isfinite().all()]
        assert idle == [], f"the mixture gets no finite gradient at {idle}"

    def test_a_deep_copy_is_the_same_network(self) -> None:
        """Averages of weights and checkpoints rest on copies."""
        space, task = self.make(), self.task()
        network = space.build(self.sampled(space, task, 1)[0], task).eval()
        assert torch.equal(copy.deepcopy(network)(inputs_of(task)), network(inputs_of(task))), "a copy of a network computes otherwise"

    def test_neighbours_and_mutants_are_architectures_of_the_space(self) -> None:
        """What strategies make of an architecture is repaired once, has a form, and builds."""
        space, task, rng = self.make(), self.task(), np.random.default_rng(5)
        choices = space.choices(task)
        first = self.sampled(space, task, 1)[0]
        mutants = [choices.mutate(first, rng) for _ in range(4)]
        for changed in (*islice(choices.neighbours(first), 6), *mutants):
            repaired = space.repair(changed, rng)
            choices.check(repaired)
            again = space.repair(repaired, rng)
            assert again == repaired, f"repair changes what it has repaired, {dict(repaired)}: leave an architecture that keeps the rules"
            space.canonical(repaired, task)
            meta(space, repaired, task)

    def test_what_a_mixture_stands_for_keeps_the_rules(self) -> None:
        """`discretize`, of random mixtures."""
        space, task, rng = self.make(), self.task(), np.random.default_rng(6)
        choices = space.choices(task)
        for _ in range(5):
            mixture = {choice.name: torch.from_numpy(rng.dirichlet(np.ones(len(choice.options)))).float() for choice in choices}
            decided = space.discretize(mixture, task)
            choices.check(decided)
            kept = space.repair(decided, rng) == decided
            assert kept, f"discretize decides for {dict(decided)}, which repair changes: decide by the space's rules"

    def test_cost_is_known_before_a_network_is_built(self) -> None:
        """Parameters and FLOPs from a network without memory; numbers of the structure are the same ones for every architecture."""
        space, task = self.make(), self.task()
        for architecture in self.sampled(space, task, 2, seed=7):
            known = cost(meta(space, architecture, task), task)
            built = sum(weight.numel() for weight in space.build(architecture, task).parameters())
            assert known["parameters"] == built, f"{dict(architecture)} has {built} parameters, and {known['parameters']} before"
            assert math.isfinite(known["flops"]), f"the FLOPs of {dict(architecture)} are not finite"
        features = [space.features(architecture) for architecture in self.sampled(space, task, 8)]
        assert len({len(numbers) for numbers in features}) == 1, "features gives more numbers of one architecture than of another"
        assert all(math.isfinite(number) for numbers in features for number in numbers), "features gives what is no finite number"


def meta(space: SearchSpace, architecture: Architecture, task: Task) -> nn.Module:
    """The network of an architecture, built without memory."""
    with torch.device("meta"):
        return space.build(architecture, task)


def same_weights_same_outputs(first: nn.Module, second: nn.Module, inputs: Tensor) -> bool:
    """Whether two networks are one function with the same weights: by name where names are the same, else in the order layers run."""
    scramble(first)
    if first.state_dict().keys() != second.state_dict().keys():
        return same_function(first, second, inputs)
    second.load_state_dict(first.state_dict())
    return equal_outputs(first, second, inputs)


def twins(space: SearchSpace, task: Task, sampled: Sequence[Architecture]) -> list[Pair]:
    """Different architectures of one form: two of the sample, or one of it and a neighbour."""
    groups: dict[str, list[Architecture]] = {}
    for architecture in dict.fromkeys(sampled):
        groups.setdefault(space.canonical(architecture, task), []).append(architecture)
    found = [(group[0], group[1]) for group in groups.values() if len(group) > 1]
    for form, group in islice(groups.items(), 8):
        for other in space.choices(task).neighbours(group[0]):
            if space.canonical(other, task) == form:
                found.append((group[0], other))
                break
    return found
