"""The training loop. Every step is a function of (seed, step), so a run that continues from a checkpoint is the run itself."""

import copy
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from nas.tasks.base import Task
from nas.training.augment import augment
from nas.training.limits import Guard, LimitError
from nas.training.optimizer import autocast, make_optimizer
from nas.training.recipe import Recipe
from nas.training.trend import Trend

_CHECK_EVERY = 10
_EVALUATION_BATCH = 512
_SPARING = 2.5
"""For every second that writing a checkpoint takes, this many times the usual wait until the next."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Stored inputs (examples, …) and targets (examples, …) of a split, resident on one device."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


def load_examples(pairs: list[tuple[Any, Any]], device: torch.device) -> Examples:
    """Copy arrays, memory-mapped or not, to a device, one after the other."""
    inputs, targets = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*pairs, strict=True))
    return Examples(inputs.to(device), targets.to(device))


def stream_seed(*parts: int) -> int:
    """Return a seed of 63 bits for one purpose; streams of equally many but different parts are independent."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@final
class Pace:
    """Writes a checkpoint when it is called and `seconds` of wall time have passed since the last; with 0, at every call.

    Where writing itself takes longer than 0.4 s, it is done less often in proportion: every 20 seconds at first, it never takes
    more than a fiftieth of the time.
    """

    def __init__(self, seconds: float, write: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._write, self._clock = seconds, write, clock
        self._due = clock() + seconds

    def __call__(self) -> None:
        start = self._clock()
        if start >= self._due:
            self._write()
            end = self._clock()
            self._due = end + max(1, _SPARING * (end - start)) * self._seconds


@final
class Training:
    """A network in training; its state is all that a checkpoint must hold.

    `total` is the length of the schedule in steps. The network is on `device` in channels-last order.
    """

    def __init__(self, network: nn.Module, task: Task, recipe: Recipe, *, total: int, seed: int, device: torch.device) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.task, self.recipe, self.total, self.seed, self.device = task, recipe, total, seed, device
        self.prepare = task.prepare().to(device)
        self._moments: dict[str, Any] | None = None
        self._parameters = list(self.network.parameters())
        self.average = _Average(self.network, recipe.ema) if recipe.ema else None
        self.trend = Trend(task.chance_loss(), recipe.warmup * total, device)
        self.step = 0
        self._losses = deque[Tensor]()

    @cached_property
    def optimizer(self) -> Optimizer:
        """Made when it is first needed: with it PyTorch loads a compiler, for a second that nobody waits who only wants the weights.

        Raises ValueError when what was loaded is of another network.
        """
        made = make_optimizer(self.recipe, self.network)
        if self._moments is not None:
            made.load_state_dict(self._moments)
        return made

    def advance(self, examples: Examples, until: int, guard: Guard, pace: Callable[[], None] | None = None) -> float:
        """Train until `until` steps are done in all and return the mean loss of the last ones, of one epoch at most.

        `pace` is called after every step but the last. What it saves of this training continues with another call for the same
        `until`, which returns the same mean. Raises LimitError when the guard does, ValueError when `until` lies beyond the schedule.
        """
        if until > self.total:
            raise ValueError(f"{until} steps were asked for, but the schedule ends after {self.total}: ask for fewer, or plan for more")
        self.network.train()
        generator = Generator(self.device)
        batch = min(self.recipe.batch_size, len(examples))
        per_epoch = len(examples) // batch
        order, current = torch.empty(0), -1
        self._losses = losses = deque(self._losses, maxlen=per_epoch)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            while self.step < until:
                epoch, position = divmod(self.step, per_epoch)
                if epoch != current:
                    generator.manual_seed(stream_seed(self.seed, 0, epoch))
                    order, current = torch.randperm(len(examples), generator=generator, device=self.device), epoch
                indices = order[position * batch : (position + 1) * batch]
                generator.manual_seed(stream_seed(self.seed, 1, self.step))
                _seed_layers(stream_seed(self.seed, 2, self.step), self.device)
                images = augment(examples.inputs[indices], self.recipe.augmentation, generator)
                losses.append(self._update(images, examples.targets[indices]))
                self.step += 1
                self.trend.add(self.step, losses[-1])
                guard.check_time(self.step)
                if self.step % _CHECK_EVERY == 0 or self.step == until:
                    guard.check(self.step, float(losses[-1]))
                    guard.check_trend(self.step, self.trend.above)
                if pace is not None and self.step < until:
                    pace()
        self._losses = deque()
        return float(torch.stack(list(losses)).mean()) if losses else float("nan")

    def _update(self, inputs: Tensor, targets: Tensor) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(self.step, self.total)
        with autocast(self.recipe, self.device):
            outputs = self.network(self.prepare(inputs))
        loss = self.task.loss(outputs.float(), targets, self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.gradient_clip:
            nn.utils.clip_grad_norm_(self._parameters, self.recipe.gradient_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.step)
        return loss.detach()

    @property
    def result(self) -> nn.Module:
        """The network to evaluate and to ship: the averaged one where the recipe averages."""
        return self.average.network if self.average is not None else self.network

    def state_dict(self) -> dict[str, Any]:
        """Weights, average, optimizer, position and the trend of the loss; within `advance` also the losses that its mean will be of."""
        average = self.average.network.state_dict() if self.average is not None else {}
        weights = {"network": self.network.state_dict(), "average": average, "optimizer": self.optimizer.state_dict()}
        state = {"step": self.step, **weights, "trend": self.trend.state_dict()}
        return state | {"losses": torch.stack(list(self._losses))} if self._losses else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned for a network of the same architecture."""
        self.step = int(state["step"])
        self.trend.load_state_dict(state["trend"])
        self.network.load_state_dict(state["network"])
        self._moments = state["optimizer"]
        self.__dict__.pop("optimizer", None)
        if self.average is not None:
            self.average.network.load_state_dict(state["average"])
        self._losses = deque(state["losses"].to(self.device).unbind()) if "losses" in state else deque()


@final
class _Average:
    """Exponential moving average of weights and statistics (Polyak and Juditsky 1992), faster at the start."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay
        # Tensors are changed in place for as long as a network lives, so they can be collected once instead of at every step.
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._mine = [mine for mine, _ in pairs if mine.is_floating_point()]
        self._theirs = [theirs for _, theirs in pairs if theirs.is_floating_point()]
        self._counts = [(mine, theirs) for mine, theirs in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the network; `step` counts from 0."""
        torch._foreach_lerp_(self._mine, self._theirs, 1 - min(self._decay, (1 + step) / (10 + step)))
        for mine, theirs in self._counts:
            mine.copy_(theirs)


def _seed_layers(seed: int, device: torch.device) -> None:
    """Seed what layers such as dropout draw from. `torch.manual_seed` would note a stack trace each time where no GPU is in use."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


@torch.inference_mode()
def outputs_of(network: nn.Module, examples: Examples, task: Task) -> Tensor:
    """Return a network's outputs for all examples, in evaluation mode, on the CPU.

    Raises LimitError when one of them is not a finite number, since metrics of such outputs look like those of a bad network.
    """
    prepare = task.prepare().to(examples.inputs.device)
    mode = network.training
    network.eval()
    try:
        batches = torch.split(examples.inputs, _EVALUATION_BATCH)
        outputs = torch.cat([network(prepare(batch)).float() for batch in batches]).cpu()
    finally:
        network.train(mode)
    if not outputs.isfinite().all():
        raise LimitError("the network's outputs are not finite numbers: training diverged, lower the learning rate", "diverged")
    return outputs


def pick_device(name: str) -> torch.device:
    """Return the device of a setting; `auto` is the first GPU if there is one. Raises ValueError when there is none of that name."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}, which torch does not know: use cpu, cuda, cuda:N or auto") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r} but torch finds {torch.cuda.device_count()} GPUs: set it to 'cpu' or 'auto'")
    return device
