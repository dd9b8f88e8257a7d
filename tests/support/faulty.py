"""Candidates that do the worst they can, each in its own way, and searches through lists of them."""

import ctypes
import math
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from fake_search import Fake
from pydantic import PrivateAttr
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.data.dataset import Description
from nas.evaluators.base import Evaluator
from nas.spaces.base import Picker, SearchSpace
from nas.strategies.base import Strategy
from nas.tasks.base import Task
from nas.tasks.image_classification import ImageClassification
from nas.trial import History, Proposal, Report, Trial

LABELS = tuple("0123456789abcdef")


def _hoard() -> None:
    kept = []
    while True:
        kept.append(torch.empty(2**24))  # not touched: a limit on what is used would come after seconds on a busy machine


def _hang() -> None:
    """As code in C that never comes back: no signal with a handler in Python gets through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(3600)


def _raise() -> None:
    raise RuntimeError("this candidate raises")


FAULTS: Mapping[str, Callable[[], Any]] = {
    "none": lambda: None,
    "hoard": _hoard,
    "sleep": lambda: time.sleep(3600),
    "hang": _hang,
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "raise": _raise,
}
WAITS = ("wait_0", "wait_1", "wait_2")


class Fault(nn.Module):
    """Does what its name says when it sees data; as a structure without data it is harmless."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.name, self.folder = name, folder

    def forward(self, features: Tensor) -> Tensor:
        """Features of any shape, as they were."""
        if features.is_meta:
            return features
        if self.name == "nan":
            return features * math.nan
        if self.name in WAITS:
            (self.folder / f"{self.name}.{os.getpid()}").touch()
            while not (self.folder / f"{self.name}.go").exists():
                time.sleep(0.01)
        else:
            FAULTS[self.name]()
        return features


class FaultySpace(SearchSpace):
    """One convolution and one fault. `label` changes nothing, but no two labels count as one function."""

    folder: Path
    """Where candidates that wait leave their process's number, and look for leave to go on."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        """Return the network."""
        fault = pick("fault", {name: partial(Fault, name, self.folder) for name in (*FAULTS, *WAITS, "nan")})
        label = pick("label", dict.fromkeys(LABELS, nn.Identity))
        return nn.Sequential(nn.Conv2d(task.input_shape[0], 4, 3, padding=1), fault, label, nn.ReLU(), task.head(4))


class PlainTask(Task):
    """Images with accuracy alone: metrics of PyTorch's own take no second to import in every process that dies."""

    metric_names: ClassVar[tuple[str, ...]] = ("accuracy",)
    share_names: ClassVar[tuple[str, ...]] = ("accuracy",)
    output_names: ClassVar[tuple[str, ...]] = ("logits",)
    _images: ImageClassification = PrivateAttr(default_factory=ImageClassification)

    def bind(self, description: Description) -> "PlainTask":
        """As images."""
        self._images.bind(description)
        super().bind(description)
        return self

    @property
    def input_shape(self) -> tuple[int, ...]:
        """As images."""
        return self._images.input_shape

    def head(self, channels: int) -> nn.Module:
        """As images."""
        return self._images.head(channels)

    def prepare(self) -> nn.Module:
        """As images."""
        return self._images.prepare()

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """As images."""
        return self._images.loss(outputs, targets, smoothing)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return the share of right answers."""
        return {"accuracy": float((outputs.argmax(1) == targets).double().mean())}

    def details(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def predictions(self, outputs: Tensor, targets: Tensor) -> list[tuple[str, str]]:
        """Return nothing."""
        return []

    def deployable(self, network: nn.Module) -> nn.Module:
        """Return the network."""
        return network

    def example(self, batch: int) -> Tensor:
        """As images."""
        return self._images.example(batch)


class Listed(Strategy):
    """Proposes candidates with the faults of a list, one label after the other."""

    faults: tuple[str, ...]

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Return the next; None at the end."""
        number = len(history)
        if number == len(self.faults):
            return None
        return Proposal(Architecture({"fault": self.faults[number], "label": LABELS[number]}))


class Delayed(Fake):
    """Takes a random time that no seed determines; `seconds` is the moment when it was over."""

    def evaluate(self, trial: Trial) -> Report:
        """Wait, then do arithmetic."""
        time.sleep(random.random() * 0.03)
        return replace(super().evaluate(trial), seconds=time.time())


class Placed(Evaluator):
    """Reports its device as its place in a list, and how often it warmed up, which always fails in the end."""

    device: str = "auto"
    _warmed: int = PrivateAttr(0)

    def warm_up(self) -> None:
        """Raise, as data that are missing would make it."""
        self._warmed += 1
        raise FileNotFoundError("no data")

    def patience(self, trial: Trial) -> float | None:
        """Short for what sleeps."""
        return 0.5 if trial.architecture["how"] == "sleep" else None

    def evaluate(self, trial: Trial) -> Report:
        """Report, or sleep when the architecture says so."""
        if trial.architecture["how"] == "sleep":
            time.sleep(3600)
        return Report({"device": float(("auto", "cpu", "cuda:0").index(self.device)), "warmed": float(self._warmed)})
