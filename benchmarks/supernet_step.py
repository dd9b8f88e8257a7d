"""What a step of weight sharing costs: CPU seconds and memory, on random images of CIFAR's shape.

    python benchmarks/supernet_step.py --mode darts-first --channels 16 --cells 5 --batch 64 --threads 1

A step is one weight step on a batch and one architecture step on another batch, in the space `cell` with three stages (widths
channels, 2 x channels, 4 x channels; `--cells` per stage). The modes differ in what runs:

- single-path: a random path is trained, and another one is scored with the batch's statistics, without any gradient (as in ENAS).
- gdas: a hard Gumbel sample is trained, and another one gets the gradient of its mixture (Dong and Yang 2019).
- darts-first: the softmax of the logits is trained, then gets its gradient at these weights (Liu et al. 2019, first order).
- darts-second: the gradient is taken one step of the weights ahead, with the term of second order by finite differences
  (Liu et al. 2019, equations 7 and 8).

The last line is JSON: the median CPU seconds of a step after two to warm up, the peak of the resident memory above what was
resident after the imports, and for the ratio a training step of one fixed cell (three 3 x 3, one 1 x 1, one skip towards the
output), built alone and measured in the same run, after the peak is read. Memory is read from /proc, so this runs on Linux.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD

from nas.architecture import Architecture, Choices
from nas.data.dataset import Description
from nas.spaces.cell import EDGES, Cell
from nas.tasks.image_classification import ImageClassification
from nas.training.mixing import Loss, gradient, unrolled_gradient

CLASSES, SIDE, STAGES = 10, 32, 3
CLIP = 5.0
RATE = 0.025
WARM_UP = 2
FIXED_STEPS = 5
FIXED_CELL = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")


class Batch(NamedTuple):
    """Network inputs (batch, 3, height, width) and classes (batch,)."""

    inputs: Tensor
    targets: Tensor


class Search:
    """A supernet in training, and the logits of its mixture."""

    def __init__(self, space: Cell, task: ImageClassification, seed: int) -> None:
        torch.manual_seed(seed)
        self.task = task
        self.supernet = space.supernet(task).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.weights = list(self.supernet.parameters())
        # Not the fused one: it wants a momentum for every weight that has a gradient, and a path's weights get theirs late.
        self.optimizer = SGD(self.weights, lr=RATE, momentum=0.9, weight_decay=3e-4, nesterov=True, foreach=True)
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        choices = self.supernet.choices
        self.logits = [torch.randn(len(choice.options), generator=self.generator).mul_(1e-3).requires_grad_() for choice in choices]
        self.logits_optimizer = torch.optim.Adam(self.logits, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def loss_on(self, batch: Batch) -> Loss:
        """The loss of a batch as a function of the mixture."""

        def loss(mixture: Mapping[str, Tensor]) -> Tensor:
            self.supernet.set_mixture(mixture)
            return self.task.loss(self.supernet(batch.inputs), batch.targets, 0.0)

        return loss

    def named(self, weights: list[Tensor]) -> dict[str, Tensor]:
        """A mixture from its tensors in the order of the choices."""
        return dict(zip([choice.name for choice in self.supernet.choices], weights, strict=True))

    def soft(self) -> dict[str, Tensor]:
        """The mixture of DARTS."""
        return self.named([logits.softmax(0) for logits in self.logits])

    def hard(self, temperature: float = 10.0) -> dict[str, Tensor]:
        """A mixture of GDAS: one option of every choice, with the gradient of the soft sample."""
        samples = []
        for logits in self.logits:
            noise = -torch.empty_like(logits).exponential_(generator=self.generator).log()
            soft = ((logits.log_softmax(0) + noise) / temperature).softmax(0)
            samples.append(torch.zeros_like(soft).scatter_(0, soft.argmax(0, keepdim=True), 1.0) - soft.detach() + soft)
        return self.named(samples)

    def weight_step(self, batch: Batch, mixture: Mapping[str, Tensor]) -> None:
        """Train a mixture's weights."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_on(batch)({name: weights.detach() for name, weights in mixture.items()}).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.optimizer.step()

    def follow(self, mixture: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Hand gradients of a mixture on to the logits, and move those."""
        self.logits_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(list(mixture.values()), [gradients[name] for name in mixture])
        self.logits_optimizer.step()


def single_path(search: Search, fit: Batch, other: Batch) -> None:
    """Train a random path, score another."""
    choices = search.supernet.choices
    trained, scored = ({name: _one_hot(choices, path, name) for name in path} for path in (choices.sample(search.rng) for _ in range(2)))
    search.weight_step(fit, trained)
    with torch.no_grad():
        search.loss_on(other)(scored)


def _one_hot(choices: Choices, path: Architecture, name: str) -> Tensor:
    options = next(choice.options for choice in choices if choice.name == name)
    return torch.tensor([float(option == path[name]) for option in options])


def gdas(search: Search, fit: Batch, other: Batch) -> None:
    """Train a hard sample, then give the logits the gradient of another."""
    search.weight_step(fit, search.hard())
    sample = search.hard()
    search.follow(sample, gradient(search.loss_on(other), sample, search.weights))


def darts_first(search: Search, fit: Batch, other: Batch) -> None:
    """Train the softmax, then give the logits its gradient."""
    search.weight_step(fit, search.soft())
    mixture = search.soft()
    search.follow(mixture, gradient(search.loss_on(other), mixture, search.weights))


def darts_second(search: Search, fit: Batch, other: Batch) -> None:
    """Train the softmax, then give the logits the gradient one step ahead."""
    search.weight_step(fit, search.soft())
    mixture = search.soft()
    search.follow(mixture, unrolled_gradient(search.loss_on(fit), search.loss_on(other), mixture, search.weights, RATE))


MODES: Mapping[str, Callable[[Search, Batch, Batch], None]] = {
    "single-path": single_path,
    "gdas": gdas,
    "darts-first": darts_first,
    "darts-second": darts_second,
}


def describe(classes: int = CLASSES, side: int = SIDE) -> Description:
    """CIFAR's description, without its data."""
    return Description(
        task="image_classification",
        source={"name": "random"},
        input_shape=(side, side, 3),
        input_dtype="uint8",
        classes=[f"class {index}" for index in range(classes)],
        counts=dict.fromkeys(("fit", "select", "confirm", "test"), classes),
        class_counts={name: [1] * classes for name in ("fit", "select", "confirm", "test")},
        mean=[127.5] * 3,
        std=[64.0] * 3,
        digest="0" * 64,
    )


def random_batch(task: ImageClassification, size: int, seed: int) -> Batch:
    """Random images as the network sees them, and random classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    return Batch(task.prepare()(images), torch.randint(0, CLASSES, (size,), generator=generator))


def cpu_seconds(step: Callable[[], object], steps: int) -> float:
    """The median CPU time of a step, all threads together."""
    for _ in range(WARM_UP):
        step()
    spent = []
    for _ in range(steps):
        start = time.process_time()
        step()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def fixed_cell(space: Cell, task: ImageClassification, batch: Batch) -> Callable[[], None]:
    """Return a training step of a network that is built alone."""
    names = [f"edge_{source}_{target}" for source, target in EDGES]
    network = space.build(Architecture(dict(zip(names, FIXED_CELL, strict=True))), task)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    weights = list(network.parameters())
    optimizer = SGD(weights, lr=RATE, momentum=0.9, weight_decay=3e-4, nesterov=True, foreach=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        task.loss(network(batch.inputs), batch.targets, 0.0).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()

    return step


def resident(field: str) -> int:
    """Bytes of this process's memory: `VmRSS` now, `VmHWM` at its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Read the options, measure, print."""
    after_import = resident("VmRSS")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=MODES, default="darts-first")
    parser.add_argument("--channels", type=int, default=16, help="width of the first stage")
    parser.add_argument("--cells", type=int, default=5, help="cells per stage")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=15, help="steps that are measured")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = ImageClassification().bind(describe())
    space = Cell(widths=tuple(options.channels * 2**stage for stage in range(STAGES)), cells=options.cells)
    search, mode = Search(space, task, options.seed), MODES[options.mode]
    fit, other = (random_batch(task, options.batch, options.seed + number) for number in range(2))
    seconds = cpu_seconds(lambda: mode(search, fit, other), options.steps)
    peak = resident("VmHWM") - after_import
    alone = cpu_seconds(fixed_cell(space, task, fit), FIXED_STEPS)
    print(f"{options.mode}: {seconds:.3f} CPU seconds a step, {seconds / alone:.2f} steps of one fixed cell, {peak / 2**20:.0f} MiB")
    result = {name: getattr(options, name) for name in ("mode", "channels", "cells", "batch", "threads", "steps", "seed")}
    result |= {"cpu_seconds_per_step": round(seconds, 4), "peak_bytes_above_import": peak}
    print(json.dumps(result | {"fixed_cell_cpu_seconds_per_step": round(alone, 4), "ratio_to_fixed_cell": round(seconds / alone, 3)}))


if __name__ == "__main__":
    main()
