"""Limits: each is named when passed, and the process is as before afterwards."""

import pickle
import resource
import signal
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


WILD = Recipe(batch_size=4, learning_rate=30.0, warmup=0.0, schedule="constant", gradient_clip=1.0)
"""The loss of the small network is some hundred then, but a number."""


def test_a_loss_that_stays_worse_than_guessing_is_a_divergence() -> None:
    task = task_of(classes=3)
    with pytest.raises(LimitError, match="loss is worse than guessing for 20 steps on end at step 20: training diverged") as caught:
        train(small_network(task), Limits(divergence_steps=15), recipe=WILD)
    assert caught.value.kind == "diverged"
    train(small_network(task), Limits(divergence_steps=None), recipe=WILD)
    warm = WILD.model_copy(update={"warmup": 0.5})
    assert train(small_network(task), Limits(divergence_steps=20), steps=30, recipe=warm).step == 30, "20 steps are not over yet"
    with pytest.raises(LimitError, match="for 20 steps on end at step 40"):
        train(small_network(task), Limits(divergence_steps=20), steps=40, recipe=warm)


def test_a_network_that_only_guesses_has_not_diverged() -> None:
    class Nothing(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features * 0

    network = nn.Sequential(nn.Conv2d(1, 4, 3), Nothing(), task_of(classes=3).head(4))
    assert train(network, Limits(divergence_steps=1), steps=60, recipe=Recipe(batch_size=4)).step == 60


@pytest.mark.parametrize("stop", range(1, 20, 3))
def test_a_training_that_was_interrupted_diverges_at_the_same_step(stop: int) -> None:
    task = task_of(classes=3)
    first = Training(small_network(task), task, WILD, total=30, seed=0, device=CPU)
    with Limits().watch(CPU) as guard:
        first.advance(random_examples(task, 12), stop, guard)
    second = Training(small_network(task, seed=1), task, WILD, total=30, seed=0, device=CPU)
    second.load_state_dict(first.state_dict())
    with pytest.raises(LimitError, match="for 20 steps on end at step 20"), Limits(divergence_steps=20).watch(CPU) as guard:
        second.advance(random_examples(task, 12), 30, guard)


def test_size_is_compared_with_both_limits() -> None:
    costs = {"parameters": 1000.0, "flops": 2e6}
    for enough in (Limits(), Limits(parameters=1000, flops=2e6)):
        enough.check_size(costs)
    with pytest.raises(LimitError, match="1,000 parameters pass the limit of 999") as caught:
        Limits(parameters=999).check_size(costs)
    assert caught.value.kind == "parameters"
    with pytest.raises(LimitError, match="2,000,000 flops pass the limit of 1,999,999") as caught:
        Limits(flops=1_999_999).check_size(costs)
    assert caught.value.kind == "flops"


def test_an_error_of_a_limit_keeps_its_kind_on_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(LimitError("too slow", "time")))  # noqa: S301 - its own
    assert (str(error), error.kind) == ("too slow", "time")


def test_other_errors_while_time_is_limited_pass_and_leave_no_alarm() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyError), Limits(seconds=60).watch(CPU):  # noqa: PT012 - the alarm is only set inside
        assert signal.getsignal(signal.SIGALRM) != before
        raise KeyError
    assert signal.getsignal(signal.SIGALRM) == before
