import math

import numpy as np
import pytest
from simulated import Simulated

from export.machine import Target
from export.timing import (
    FEWEST,
    MOST,
    Block,
    Clock,
    Open,
    Pace,
    Run,
    Sample,
    Sessions,
    clock_of,
    level,
    observe,
    observe_pairs,
    runs_for,
    warm_up,
)


def machine(seed: int = 0, **noise: float) -> Simulated:
    return Simulated(np.random.default_rng(seed), **noise)


def test_core_time_needs_one_thread_on_the_cpu() -> None:
    assert clock_of(Target()) == "core"
    assert clock_of(Target(threads=2)) == "wall"
    assert clock_of(Target(provider="CUDAExecutionProvider")) == "wall"


def test_the_level_of_a_block() -> None:
    samples = [Sample(wall, core) for wall, core in zip([9, 2, 30, 4, 5, 6, 7, 8, 3, 10], range(10, 20), strict=True)]
    assert level(samples, "core") == 14
    assert level(samples, "wall") == 2


@pytest.mark.parametrize(("milliseconds", "runs"), [(0.001, 50), (0.1, 40), (1.0, 4), (100.0, 3), (0.0, 50)])
def test_a_block_has_few_runs_of_a_slow_model(milliseconds: float, runs: int) -> None:
    assert runs_for(milliseconds) == runs


def test_warm_up_ends_when_the_runs_stop_getting_faster() -> None:
    quiet = machine(noise=0, preempted=0, sessions=0)
    quiet.speed = lambda now: 1 + 9 * math.exp(-now / 0.01)
    assert warm_up(quiet.model(1.0)(), "core", Pace(1.0, quiet.now)) == pytest.approx(1.0, rel=0.15)
    assert quiet.seconds < 0.2


def test_warm_up_of_a_slow_model_ends_with_its_time() -> None:
    quiet = machine(noise=0, preempted=0, sessions=0)
    assert warm_up(quiet.model(400.0, opening=0)(), "core", Pace(0.1, quiet.now)) == 400
    assert quiet.seconds == pytest.approx(0.4)


def test_the_sentinel_on_both_sides_judges_a_block() -> None:
    assert Block((), 1.0, 1.09).steady
    assert not Block((), 1.0, 1.11).steady
    assert not Block((), 1.11, 1.0).steady


def test_blocks_that_are_not_steady_are_measured_again() -> None:
    """The machine jumps to half its speed for a while, in the midst of a block: that block does not count."""
    busy = machine(noise=0, preempted=0, sessions=0)
    busy.speed = lambda now: 2.0 if 0.2 < now < 0.3 else 1.0
    blocks = observe(busy.model(1.0), busy.model(0.5), "core", Pace(0.5, busy.now))
    assert [block.steady for block in blocks].count(False) == 2
    assert sum(block.steady for block in blocks) >= FEWEST
    assert {round(block.before, 3) for block in blocks} == {0.5, 1.0}


def test_a_machine_that_never_settles_ends_the_wait_at_twice_the_time() -> None:
    quiet = machine(noise=0, preempted=0)
    taken: list[float] = []

    def slowing() -> Sample:
        quiet.seconds += 0.001
        taken.append(1.5 ** (len(taken) // 4))
        return Sample(taken[-1], taken[-1])

    blocks = observe(quiet.model(1.0), lambda: slowing, "core", Pace(1.0, quiet.now))
    assert len(blocks) >= FEWEST
    assert not any(block.steady for block in blocks[5:])
    assert quiet.seconds == pytest.approx(2.0, rel=0.1)


def test_a_fast_model_ends_before_the_time_and_a_slow_one_has_the_fewest_blocks() -> None:
    quiet = machine(noise=0, preempted=0)
    assert len(observe(quiet.model(0.1), quiet.model(0.5), "core", Pace(60.0, quiet.now))) == MOST
    assert quiet.seconds < 5
    assert len(observe(quiet.model(500.0), quiet.model(0.5), "core", Pace(0.1, quiet.now))) == FEWEST


def test_fresh_sessions_take_no_more_than_a_third_of_the_time() -> None:
    for opening, most in ((0.0001, 1.0), (0.5, 0.05)):
        quiet = machine(noise=0, preempted=0)
        sessions = Sessions(quiet.model(1.0, opening), "core", Pace(1.0, quiet.now))
        for _ in range(100):
            run = sessions.next()
            for _ in range(20):
                run()
        assert len(quiet.opened) <= 100 * most
        assert len(quiet.opened) > 1
        assert len(quiet.opened) * opening < 0.4 * quiet.seconds


@pytest.mark.parametrize("clock", ["core", "wall"])
def test_pairs_cancel_a_machine_that_slows_down(clock: Clock) -> None:
    fading = machine(3, noise=0.01, preempted=0.3, sessions=0)
    fading.speed = lambda now: 1 + now
    ratios = observe_pairs(fading.model(1.0), fading.model(1.5), clock, Pace(2.0, fading.now), np.random.default_rng(0))
    assert FEWEST <= len(ratios) <= MOST
    assert math.exp(np.median(ratios)) == pytest.approx(1 / 1.5, rel=0.02)


def test_the_order_within_a_pair_is_drawn_and_mirrored() -> None:
    """Each block runs one model, the other twice, and the first again; which one leads follows the generator alone."""

    def order(seed: int) -> list[str]:
        quiet, calls = machine(noise=0, preempted=0), []

        def noted(name: str, milliseconds: float) -> Open:
            opened = quiet.model(milliseconds, opening=1000)  # so long that no second session is opened

            def noted_session() -> Run:
                run = opened()
                return lambda: calls.append(name) or run()  # type: ignore[func-returns-value]

            return noted_session

        observe_pairs(noted("a", 1.0), noted("b", 1.0), "core", Pace(0.0, quiet.now), np.random.default_rng(seed))
        return calls

    assert order(1) == order(1) != order(2)
    blocks = "".join(order(1)[-FEWEST * 12 :])
    groups = {blocks[start : start + 12] for start in range(0, len(blocks), 12)}
    assert groups == {"aaabbbbbbaaa", "bbbaaaaaabbb"}
