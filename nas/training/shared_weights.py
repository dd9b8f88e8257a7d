"""Weights that all options of a space share, in training.

They train on one part of the data while architectures are judged on the other (Liu et al. 2019, DARTS; Pham et al. 2018, ENAS).
Both parts are read as streams, so the state is the weights, the optimizer, and how far each stream was read.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from nas.tasks.base import Task
from nas.training.limits import Guard
from nas.training.loop import stream_seed
from nas.training.mixing import curvature, gradient, unrolled_gradient
from nas.training.optimizer import autocast, make_optimizer
from nas.training.recipe import Recipe
from nas.training.statistics import copies, kept, put_back, recalibrate
from nas.training.stream import Stream

Mix = Callable[[Mapping[str, Tensor]], None]
"""Makes the network run a mixture."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate is the recipe's over `steps`, never falls below `floor` of its highest, and stays there afterwards."""

    recipe: Recipe
    steps: int
    floor: float

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0 on without an end."""
        return max(self.recipe.learning_rate_at(min(step, self.steps - 1), self.steps), self.floor * self.recipe.learning_rate)


@dataclass(frozen=True, slots=True)
class Judged:
    """What one architecture batch says, on the CPU: outputs, targets, the loss, and d loss / d mixture where it was asked for."""

    outputs: Tensor
    targets: Tensor
    loss: float
    gradient: dict[str, Tensor] | None


@final
class SharedWeights:
    """A network whose options are trained together. It is moved to the streams' device, in channels-last order.

    `step` counts batches of weight training, `judgements` batches that judged architectures; `soft` says whether options were ever
    trained with weights between 0 and 1, so that none of them is used to carry a path alone.
    """

    def __init__(self, network: nn.Module, mix: Mix, task: Task, schedule: Schedule, fit: Stream, judge: Stream) -> None:
        self.device = fit.device
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mix, self.task, self.schedule, self.fit, self.judge = mix, task, schedule, fit, judge
        self.prepare = task.prepare().to(self.device)
        self.optimizer = make_optimizer(schedule.recipe, self.network)
        self.weights = list(self.network.parameters())
        self.buffers = list(self.network.buffers())
        self._memory = _begin(self.optimizer)
        self.step = 0
        self.judgements = 0
        self.soft = False

    @contextmanager
    def attempt(self, steps: int, judgements: int) -> Iterator[None]:
        """Put weights, statistics and optimizer back when the block raises, so that one bad trial does not ruin the others.

        The batches it was to use count as used even then, so that what comes next does not meet the same ones.
        """
        until = self.step + steps, self.judgements + judgements
        changing = [*self.weights, *self.buffers, *self._memory.values()]
        before = copies(changing)
        try:
            yield
        except BaseException:
            put_back(changing, before)
            raise
        finally:
            self.step, self.judgements = until

    def train(self, mixture: Mapping[str, Tensor], steps: int, guard: Guard) -> Tensor:
        """Train the options of a mixture for some steps and return the sum of the losses, a scalar on the device.

        Options that are not run keep their weights: they have no gradient, and the optimizer passes over them. Raises LimitError
        when the guard's time is used up; whether the losses are finite is for the caller to see, since asking waits for the device.
        """
        self.mix({name: weights.detach() for name, weights in mixture.items()})
        self.soft = self.soft or (steps > 0 and any(bool(((part != 0) & (part != 1)).any()) for part in mixture.values()))
        self.network.train()
        total = torch.zeros((), device=self.device)
        with self._own_randomness():
            for _ in range(steps):
                total = total + self._update(self.step, self.schedule.rate(self.step))
                self.step += 1
                guard.check_time(self.step)
        return total

    def judged(self, mixture: Mapping[str, Tensor], trained: Tensor, *, graded: bool, unrolled: bool) -> Judged:
        """Judge a mixture on the next architecture batch, with the statistics of that batch; the weights are left as they are.

        `trained` is what `train` returned and is brought to the CPU with the rest, in one wait for the device: where it is not
        finite, neither is the loss that is returned. `graded` asks for the gradient, of second order when `unrolled`.
        """
        inputs, targets = self.judge.at(self.judgements)
        self.judgements += 1
        seen: list[Tensor] = []

        def loss(given: Mapping[str, Tensor]) -> Tensor:
            outputs = self._outputs(given, inputs, stream_seed(self.judge.seed, 2, self.judgements))
            seen.append(outputs.detach())
            return self.task.loss(outputs, targets, 0.0)

        found = None
        self.network.train()
        with kept(self.buffers), self._own_randomness():
            if graded and not unrolled:
                found = gradient(loss, mixture, self.weights)
            else:
                with torch.no_grad():
                    loss(mixture)
            outputs = seen[0]
            if graded and unrolled:
                found = unrolled_gradient(self._next_loss, loss, mixture, self.weights, self.schedule.rate(self.step))
        value = self.task.loss(outputs, targets, 0.0) + 0 * trained
        moved = [tensor.to("cpu", non_blocking=True) for tensor in (outputs, targets, value)]
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        # Copies, because small tensors made amid large ones keep the memory of those from being given back.
        return Judged(moved[0], moved[1], float(moved[2]), found and {name: part.clone() for name, part in found.items()})

    def curvature(self, mixture: Mapping[str, Tensor], products: int) -> float:
        """Return the largest eigenvalue of the Hessian of the architecture loss with respect to logits, on the stream's first batch.

        Always the same batch, so that what changes over a search is the weights and not the images.
        """
        inputs, targets = self.judge.at(0)
        seed = stream_seed(self.judge.seed, 3)

        def loss(given: Mapping[str, Tensor]) -> Tensor:
            return self.task.loss(self._outputs(given, inputs, seed), targets, 0.0)

        self.network.train()
        with kept(self.buffers), self._own_randomness():
            return curvature(loss, mixture, self.weights, seed=seed, products=products)

    @contextmanager
    def alone(self, mixture: Mapping[str, Tensor], tuning: int, batches: int) -> Iterator[nn.Module]:
        """Return the network running a single path, with statistics from `batches` batches of weight training; 0 keeps the shared ones.

        Where weights were trained under soft mixtures, the path is first trained by itself for `tuning` steps, always from the first
        batches. Weights, statistics and optimizer are back when the context ends.
        """
        self.mix(mixture)
        steps = tuning if self.soft else 0
        changing = [*self.weights, *self.buffers, *self._memory.values()] if steps else self.buffers
        with kept(changing), self._own_randomness():
            for tensor in self._memory.values() if steps else ():
                tensor.zero_()
            self.network.train()
            for step in range(steps):
                self._update(step, self.schedule.recipe.learning_rate_at(step, steps))
            self._seed_layers(stream_seed(self.fit.seed, 4))
            recalibrate(self.network, [self.prepare(inputs) for inputs in self.fit.sample(batches)])
            yield self.network

    def state_dict(self) -> dict[str, Any]:
        """Weights, statistics, what the optimizer remembers, and the positions."""
        state = {"step": self.step, "judgements": self.judgements, "soft": self.soft, "network": self.network.state_dict()}
        return state | {"optimizer": dict(self._memory)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned; nothing is shared with it afterwards."""
        self.step, self.judgements, self.soft = int(state["step"]), int(state["judgements"]), bool(state["soft"])
        self.network.load_state_dict(state["network"])
        with torch.no_grad():
            for name, tensor in self._memory.items():
                tensor.copy_(state["optimizer"][name])

    def _update(self, step: int, rate: float) -> Tensor:
        recipe = self.schedule.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._training_loss(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.gradient_clip:
            nn.utils.clip_grad_norm_(self.weights, recipe.gradient_clip)
        self.optimizer.step()
        return loss.detach()

    def _next_loss(self, mixture: Mapping[str, Tensor]) -> Tensor:
        """The training loss that the next weight step will follow."""
        self.mix(mixture)
        return self._training_loss(self.step)

    def _training_loss(self, step: int) -> Tensor:
        recipe = self.schedule.recipe
        inputs, targets = self.fit.augmented(step, recipe.augmentation)
        self._seed_layers(stream_seed(self.fit.seed, 2, step))
        with autocast(recipe, self.device):
            outputs = self.network(self.prepare(inputs))
        return self.task.loss(outputs.float(), targets, recipe.label_smoothing)

    def _outputs(self, mixture: Mapping[str, Tensor], inputs: Tensor, seed: int) -> Tensor:
        self.mix(mixture)
        self._seed_layers(seed)
        with autocast(self.schedule.recipe, self.device):
            outputs: Tensor = self.network(self.prepare(inputs))
        return outputs.float()

    def _own_randomness(self) -> Any:
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    def _seed_layers(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)


def _begin(optimizer: Optimizer) -> dict[str, Tensor]:
    """Give an optimizer its memory for every weight and return it by name.

    Optimizers make it when a weight first has a gradient. Here that is at another step for every option, which fused SGD does not
    take: it wants all of a step's weights to be new, or none. Zeros are what the first step would begin from.
    """
    memory: dict[str, Tensor] = {}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, weight in enumerate(weights):
        state = optimizer.state[weight]
        if isinstance(optimizer, SGD):
            if optimizer.param_groups[0]["momentum"]:
                state["momentum_buffer"] = torch.zeros_like(weight)
        else:
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        memory |= {f"{index}.{name}": value for name, value in state.items()}
    return memory
