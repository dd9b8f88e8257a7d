"""Endless batches of some examples. Batch n is a function of (seed, n), so a run that continues at n meets the right ones."""

from typing import final

import torch
from torch import Generator, Tensor

from nas.training.augment import augment
from nas.training.loop import Examples, stream_seed
from nas.training.recipe import Augmentation


def divide(count: int, share: float, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the positions 0 … count - 1 in two parts that do not overlap; the second holds `share` of them, rounded.

    Raises ValueError when a part holds fewer than two, since no batch can be made of it.
    """
    second = round(count * share)
    if min(second, count - second) < 2:
        raise ValueError(f"{count} examples and a share of {share:g} make parts of {count - second} and {second}: each needs two or more")
    order = torch.randperm(count, generator=Generator().manual_seed(seed)).to(device)
    return order[second:].sort().values, order[:second].sort().values


@final
class Stream:
    """Batches of the examples at `part` (their positions), in a new order every epoch; what does not fill a batch is left out."""

    def __init__(self, examples: Examples, part: Tensor, batch: int, seed: int) -> None:
        self._examples, self._part, self.seed = examples, part, seed
        self.device = part.device
        self._batch = min(batch, len(part))
        self._order, self._epoch = part, -1

    def at(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of batch `number`, as they are stored."""
        epoch, position = divmod(number, len(self._part) // self._batch)
        if epoch != self._epoch:
            generator = Generator(self._part.device).manual_seed(stream_seed(self.seed, 0, epoch))
            order = torch.randperm(len(self._part), generator=generator, device=self._part.device)
            self._order, self._epoch = self._part[order], epoch
        indices = self._order[position * self._batch : (position + 1) * self._batch]
        return self._examples.inputs[indices], self._examples.targets[indices]

    def augmented(self, number: int, settings: Augmentation) -> tuple[Tensor, Tensor]:
        """Return batch `number` with its inputs changed at random, each time alike."""
        inputs, targets = self.at(number)
        generator = Generator(inputs.device).manual_seed(stream_seed(self.seed, 1, number))
        return augment(inputs, settings, generator), targets

    def sample(self, batches: int) -> list[Tensor]:
        """Return the inputs of the first `batches` batches of the part in stored order; fewer where the part is smaller."""
        return list(torch.split(self._examples.inputs[self._part[: batches * self._batch]], self._batch))
