"""What every search space is: a function of a picker, written once and read three ways.

One picker records the choices, one builds the chosen network, one (in nas.networks.supernet) builds all options at once.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, final

import numpy as np
from pydantic import BaseModel, ConfigDict

from nas.architecture import Architecture, Choice, Choices
from nas.tasks.base import Task

if TYPE_CHECKING:  # settings are read without PyTorch
    from torch import nn

    from nas.architecture import Mixture
    from nas.networks.supernet import Supernet

Options = Mapping[str, Callable[[], "nn.Module"]]
"""What can be picked: a function that makes the module, by option name."""


class Picker(Protocol):
    """Answers the decisions that a space asks for. The same name asked twice is one decision."""

    def __call__(self, name: str, options: Options) -> "nn.Module":
        """Return the module of a decision; only options that are needed are made."""

    def number(self, name: str, options: Sequence[int]) -> int:
        """Return a number that shapes the network, such as a width; which decisions are asked must not depend on it.

        A supernet cannot mix numbers and refuses.
        """


class SearchSpace(BaseModel, ABC):
    """A family of networks. Its fields are its settings; only `define` must be written."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    @abstractmethod
    def define(self, pick: Picker, task: Task) -> "nn.Module":
        """Return the network that the picker's answers make; its head comes from the task."""

    def choices(self, task: Task) -> Choices:
        """Return every decision, in the order asked; nothing is allocated."""
        import torch

        recorder = _Recorder()
        with torch.device("meta"):
            self.define(recorder, task)
        return recorder.choices()

    def build(self, architecture: Mapping[str, str], task: Task) -> "nn.Module":
        """Return the network of an architecture, initialised from torch's global generator on the current device.

        Raises KeyError or ValueError when the architecture does not answer a decision with one of its options.
        """
        return self.define(_Builder(architecture), task)

    def supernet(self, task: Task) -> "Supernet":
        """Return a network that holds every option and runs any mixture of them.

        Raises ValueError when the space decides on numbers, which cannot be mixed.
        """
        from nas.networks.supernet import Supernet, SupernetPicker

        picker = SupernetPicker()
        return Supernet(self.define(picker, task), picker)

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        """Return a text that is equal only for architectures known to build the same function.

        The default drops the decisions that were not asked because of other answers; a space that knows more overrides it.
        """
        return json.dumps(dict(sorted(self.decisions(architecture, task).items())), separators=(",", ":"))

    def decisions(self, architecture: Mapping[str, str], task: Task) -> dict[str, str]:
        """Return the answers of an architecture that its network asks for, in the order asked; the others change nothing."""
        import torch

        builder = _Builder(architecture)
        with torch.device("meta"):
            self.define(builder, task)
        return {name: architecture[name] for name in builder.asked}

    def features(self, architecture: Mapping[str, str]) -> list[float]:
        """Return numbers that say more about the structure than its options do, the same ones for every architecture; none by default."""
        return []

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Return the architecture that is evaluated in the place of a proposed one; itself by default, and again when it is asked again.

        For spaces whose rules join several choices, such as two inputs per node, which no strategy knows.
        """
        return architecture

    def discretize(self, mixture: "Mixture", task: Task) -> Architecture:
        """Return the architecture of the heaviest option of every choice."""
        return Architecture({choice.name: choice.options[int(mixture[choice.name].argmax())] for choice in self.choices(task)})


def image_channels(task: Task, space: str) -> int:
    """Return the input channels of an image task. Raises ValueError for other tasks, naming the space that refuses."""
    if len(task.input_shape) != 3:
        raise ValueError(f"space {space!r} wants images (channels, height, width), the task gives {task.input_shape}: choose another space")
    return task.input_shape[0]


@final
class _Recorder:
    """Notes every decision and makes every option, so that decisions inside options are seen too."""

    def __init__(self) -> None:
        self._options: dict[str, tuple[str, ...]] = {}

    def __call__(self, name: str, options: Options) -> "nn.Module":
        self._note(name, tuple(options))
        made = [make() for make in options.values()]
        return made[0]

    def number(self, name: str, options: Sequence[int]) -> int:
        self._note(name, tuple(str(option) for option in options))
        return options[0]

    def choices(self) -> Choices:
        return Choices([Choice(name, options) for name, options in self._options.items()])

    def _note(self, name: str, options: tuple[str, ...]) -> None:
        known = self._options.setdefault(name, options)
        if known != options:
            raise ValueError(f"choice {name!r} is asked with options {options} and before with {known}: use one set of options per name")


@final
class _Builder:
    """Answers with a given architecture and notes which decisions were asked."""

    def __init__(self, architecture: Mapping[str, str]) -> None:
        self._architecture = architecture
        self.asked: dict[str, None] = {}

    def __call__(self, name: str, options: Options) -> "nn.Module":
        return options[self._answer(name, tuple(options))]()

    def number(self, name: str, options: Sequence[int]) -> int:
        return int(self._answer(name, tuple(str(option) for option in options)))

    def _answer(self, name: str, options: tuple[str, ...]) -> str:
        self.asked[name] = None
        answer = self._architecture.get(name)
        if answer is None:
            raise KeyError(f"the architecture does not answer {name}: pick one of {', '.join(options)}")
        if answer not in options:
            raise ValueError(f"{name} is {answer!r}: pick one of {', '.join(options)}")
        return answer
