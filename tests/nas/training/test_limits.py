"""Limits: each is named when passed, and the process is as before afterwards."""

import resource
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from small_images import CPU, random_examples, small_network, task_of
from torch import nn

from nas.training.limits import Guard, LimitError, Limits
from nas.training.loop import Training
from nas.training.recipe import Recipe


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever happens in a test, the process keeps its own limits."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    yield
    after = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert after == before


def train(network: nn.Module, limits: Limits, steps: int = 30, recipe: Recipe | None = None) -> Training:
    task = task_of(classes=3)
    with limits.watch(CPU) as guard:
        one = Training(network, task, recipe or Recipe(batch_size=4), total=steps, seed=0, device=CPU)
        one.advance(random_examples(task, 12), steps, guard)
    return one


class Slow(nn.Module):
    """Sleeps in every forward pass."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return features


class Hoard(nn.Module):
    """Keeps memory: `mebibytes` more in every forward pass, written to, so that it is resident."""

    def __init__(self, mebibytes: int) -> None:
        super().__init__()
        self.mebibytes, self.kept = mebibytes, list[torch.Tensor]()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.kept.append(torch.ones(self.mebibytes * 2**18))
        return features


def test_a_training_within_its_limits_is_the_same_as_without() -> None:
    task = task_of(classes=3)
    free, held = (train(small_network(task), limits, steps=3) for limits in (Limits(), Limits(seconds=100, memory=4000)))
    assert all(torch.equal(one, other) for one, other in zip(free.network.parameters(), held.network.parameters(), strict=True))


def test_a_loss_that_is_no_number_names_its_step() -> None:
    network = small_network(task_of(classes=3))
    nn.init.constant_(network[0].bias, float("nan"))
    with pytest.raises(LimitError, match="loss is nan at step 10: training diverged"):
        train(network, Limits())
    with pytest.raises(LimitError, match="loss is nan at step 3: training diverged"):
        train(network, Limits(), steps=3)


def test_time_is_looked_at_after_every_step() -> None:
    with pytest.raises(LimitError, match=r"time of 0\.\d+ s passed the limit of 0\.05 s at step [1-4]$"):
        train(nn.Sequential(Slow(), small_network(task_of(classes=3))), Limits(seconds=0.05))


def test_memory_that_grows_is_noticed_between_steps() -> None:
    with pytest.raises(LimitError, match=r"memory of \d+ MiB passed the limit of 40 MiB at step 10"):
        train(nn.Sequential(Hoard(8), small_network(task_of(classes=3))), Limits(memory=40))


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(2**36),
        lambda: nn.Conv2d(8, 8, 3)(torch.zeros(1, 8, 2**15, 2**15)),
        lambda: [bytearray(2**24) for _ in range(10**6)],
    ],
    ids=["tensor", "convolution", "objects"],
)
def test_an_endless_allocation_fails_and_the_process_lives_on(allocate: Callable[[], object]) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(LimitError, match="memory passed the limit of 100 MiB in one allocation"), Limits(memory=100).watch(CPU):
        allocate()
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    train(small_network(task_of(classes=3)), Limits(), steps=2)


def test_an_endless_step_ends_in_a_step() -> None:
    class Endless(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            kept = []
            while True:
                kept.append(features.repeat(1000, 1, 1, 1))

    with pytest.raises(LimitError, match="memory passed the limit of 50 MiB in one allocation"):
        train(nn.Sequential(Endless(), small_network(task_of(classes=3))), Limits(memory=50))


def test_other_errors_pass_unchanged() -> None:
    for error in (RuntimeError("shapes do not fit"), ValueError("no"), KeyError("no")):
        with pytest.raises(type(error)) as caught, Limits(memory=1000).watch(CPU):
            raise error
        assert caught.value is error
    with pytest.raises(MemoryError), Limits().watch(CPU):
        raise MemoryError


def test_a_lower_limit_of_the_user_stays() -> None:
    former = resource.getrlimit(resource.RLIMIT_AS)
    lower = 2**40
    resource.setrlimit(resource.RLIMIT_AS, (lower, former[1]))
    try:
        with Limits(memory=2**30).watch(CPU):
            assert resource.getrlimit(resource.RLIMIT_AS) == (lower, former[1])
        assert resource.getrlimit(resource.RLIMIT_AS) == (lower, former[1])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


def test_without_a_memory_limit_addresses_are_free() -> None:
    former = resource.getrlimit(resource.RLIMIT_AS)
    with Limits(seconds=5).watch(CPU) as guard:
        assert resource.getrlimit(resource.RLIMIT_AS) == former
        assert isinstance(guard, Guard)
        guard.check(1, 0.5)
