"""Components that break one rule each, and their contracts: every test that is named here must fail, with a sentence."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.data.dataset import Description
from nas.evaluators.base import Evaluator
from nas.spaces.base import Picker, SearchSpace
from nas.strategies.base import Strategy
from nas.tasks.base import Task
from nas.tasks.image_classification import ImageClassification
from nas.testing import EvaluatorContract, SpaceContract, StrategyContract, TaskContract
from nas.trial import History, Proposal, Report, Trial


@final
class Unseeded(Strategy):
    """Draws from a generator of its own."""

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        return Proposal(self.choices.sample(np.random.default_rng()))


class TestUnseeded(StrategyContract):
    def make(self) -> Unseeded:
        return Unseeded()


@final
class Forgetful(Strategy):
    """Remembers how often it was asked, and does not say so."""

    _asked: int = PrivateAttr(0)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        self._asked += 1
        return Proposal([self.choices.sample(rng) for _ in range(self._asked)][-1])


class TestForgetful(StrategyContract):
    def make(self) -> Forgetful:
        return Forgetful()


@final
class Outside(Strategy):
    """Proposes an option that there is not."""

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        proposed = self.choices.sample(rng)
        return Proposal(proposed if len(history) < 20 else proposed.replace("a", "conv7"))


class TestOutside(StrategyContract):
    def make(self) -> Outside:
        return Outside()


@final
class Arrays(Strategy):
    """Keeps its state as an array of NumPy."""

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        return Proposal(self.choices.sample(rng))

    def state_dict(self) -> dict[str, Any]:
        return {"weights": np.zeros(3)}


class TestArrays(StrategyContract):
    def make(self) -> Arrays:
        return Arrays()


@final
class Meddler(Strategy):
    """Turns the history around."""

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        history.reverse()  # type: ignore[attr-defined]
        return Proposal(self.choices.sample(rng))


class TestMeddler(StrategyContract):
    def make(self) -> Meddler:
        return Meddler()


@final
class Trusting(Strategy):
    """Believes that every trial has a score."""

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        return Proposal(self.choices.sample(rng))

    def tell(self, trial: Trial) -> None:
        assert trial.score.values[0] > -1  # type: ignore[union-attr]


class TestTrusting(StrategyContract):
    def make(self) -> Trusting:
        return Trusting()


class TestUnwritten(StrategyContract):
    pass


ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


@final
class Merging(SearchSpace):
    """Says that an activation changes nothing."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        return nn.Sequential(nn.Conv2d(task.input_shape[0], 4, 3, padding=1), pick("activation", ACTIVATIONS), task.head(4))

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        return json.dumps({})


class TestMerging(SpaceContract):
    def make(self) -> Merging:
        return Merging()


@final
class Eager(SearchSpace):
    """Makes a convolution whose place and whose weights are its own affair."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        stem = nn.Conv2d(task.input_shape[0], 4, 3, padding=1, device="cpu")
        with torch.no_grad():
            stem.weight.copy_(torch.from_numpy(np.random.default_rng().random(stem.weight.shape)))
        return nn.Sequential(stem, pick("activation", ACTIVATIONS), task.head(4))


class TestEager(SpaceContract):
    def make(self) -> Eager:
        return Eager()


@final
class Headless(SearchSpace):
    """Gives ten classes whatever the task."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        stem = nn.Conv2d(task.input_shape[0], 4, 3, padding=1)
        return nn.Sequential(stem, pick("activation", ACTIVATIONS), pool, nn.Linear(4, 10))


class TestHeadless(SpaceContract):
    def make(self) -> Headless:
        return Headless()


@final
class Uneven(SearchSpace):
    """Shares the weights of a block that is another one when it is built alone."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        sizes = {"small": partial(nn.Conv2d, 4, 4, 1), "large": partial(nn.Conv2d, 4, 4, 3, padding=1)}
        block = pick("block", sizes)
        ending = nn.ReLU() if isinstance(block, nn.Conv2d) else nn.Tanh()
        return nn.Sequential(nn.Conv2d(task.input_shape[0], 4, 3, padding=1), block, ending, task.head(4))


class TestUneven(SpaceContract):
    def make(self) -> Uneven:
        return Uneven()


def length(architecture: Architecture) -> float:
    """A number of an architecture."""
    return float(sum(len(option) for option in architecture.values()))


@final
class Drifting(Evaluator):
    """Is kinder to whoever comes later, and says that it remembers nothing."""

    _seen: int = PrivateAttr(0)

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        return ("accuracy",)

    def evaluate(self, trial: Trial) -> Report:
        self._seen += 1
        return Report({"accuracy": length(trial.architecture) + self._seen})


class TestDrifting(EvaluatorContract):
    def make(self) -> Drifting:
        return Drifting()


@final
class Amnesiac(Evaluator):
    """Remembers, says so, and forgets what it remembered."""

    commit_every: ClassVar[int] = 5
    _seen: int = PrivateAttr(0)

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        return ("accuracy",)

    def evaluate(self, trial: Trial) -> Report:
        self._seen += 1
        return Report({"accuracy": length(trial.architecture) + self._seen})


class TestAmnesiac(EvaluatorContract):
    def make(self) -> Amnesiac:
        return Amnesiac()


@final
class Peeking(Evaluator):
    """Looks at the test data, has one key for everything, draws from the global generator, and takes mixtures for architectures."""

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        return ("accuracy",)

    def identity(self, proposal: Proposal) -> str:
        return "key"

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        return {"examples": float(len(self._bench.dataset.targets("fit")))}

    def evaluate(self, trial: Trial) -> Report:
        return Report({"accuracy": float(self._bench.dataset.targets("test")[0]) + float(torch.rand(()))})


class TestPeeking(EvaluatorContract):
    def make(self) -> Peeking:
        return Peeking()


class Careless(Task):
    """Takes anybody's data, learns nothing, and measures in tensors."""

    metric_names: ClassVar[tuple[str, ...]] = ImageClassification.metric_names
    share_names: ClassVar[tuple[str, ...]] = ImageClassification.share_names
    output_names: ClassVar[tuple[str, ...]] = ImageClassification.output_names
    _inside: ImageClassification = PrivateAttr(default_factory=ImageClassification)

    def bind(self, description: Description) -> Self:
        self._inside.bind(description.model_copy(update={"task": "image_classification"}))
        return super().bind(description)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._inside.input_shape

    def head(self, channels: int) -> nn.Module:
        return self._inside.head(channels)

    def prepare(self) -> nn.Module:
        return self._inside.prepare()

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        return self._inside.loss(outputs.detach(), targets, smoothing) + 0 * outputs.sum()

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {name: torch.tensor(value) for name, value in self._inside.metrics(outputs, targets).items()}  # type: ignore[misc]

    def details(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        return {}

    def predictions(self, outputs: Tensor, targets: Tensor) -> list[tuple[str, str]]:
        return []

    def deployable(self, network: nn.Module) -> nn.Module:
        return nn.Sequential(self.prepare(), network)

    def example(self, batch: int) -> Tensor:
        return self._inside.example(batch)


class TestCareless(TaskContract):
    def make(self) -> Careless:
        return Careless()
