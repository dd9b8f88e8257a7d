import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from simulated import Simulated

from export.interval import Interval
from export.machine import Machine, Target
from export.measure import Comparison, Measurement, compare, compare_opened, measure, summary, verdict_between
from export.sentinel import sentinel
from export.timing import Block, Clock, Pace, Sample

HERE = Machine("processor", "flags", 2, "Linux x86_64", "1.0")


def compared(seed: int, work: float, clock: Clock = "core", **noise: float) -> Comparison:
    rng = np.random.default_rng(seed)
    busy = Simulated(rng, **noise)
    first, second = busy.model(0.5), busy.model(0.5 * work)
    return compare_opened(first, second, clock, Pace(1.0, busy.now), margin=0.03, rng=rng)


@pytest.mark.parametrize(
    ("clock", "preempted"),
    [pytest.param("core", 0.9, id="core, hardly a run in one piece"), pytest.param("wall", 0.5, id="wall, every other run interrupted")],
)
def test_verdicts_are_right_on_a_busy_machine(clock: Clock, preempted: float) -> None:
    pairs = 100
    same = [compared(seed, 1.0, clock, preempted=preempted).verdict for seed in range(pairs)]
    more = [compared(seed, 1.5, clock, preempted=preempted).verdict for seed in range(pairs)]
    less = [compared(seed, 1 / 1.5, clock, preempted=preempted).verdict for seed in range(pairs // 4)]
    assert same.count("indistinguishable") >= 0.95 * pairs
    assert more.count("faster") >= 0.95 * pairs
    assert less.count("slower") >= 0.95 * len(less)


def test_without_a_margin_the_interval_alone_keeps_its_word() -> None:
    """99 % intervals of equal files leave out 1 in about 1 of 100, session noise and all."""
    outside = 0
    for seed in range(200):
        ratio = compared(seed, 1.0, sessions=0.05).ratio
        outside += not ratio.low <= 1 <= ratio.high
    assert outside <= 7


def test_too_much_noise_is_said_by_the_interval() -> None:
    found = compared(0, 1.5, "wall", noise=1.5, preempted=1.0)
    assert found.verdict == "indistinguishable"
    assert found.ratio.high / found.ratio.low > 1.5


def test_a_summary_of_blocks() -> None:
    blocks = [Block((Sample(9.0, 1.0 + i / 100), Sample(2.0, 1.0 + i / 100), Sample(3.0, 0.1)), 0.5, 0.5) for i in range(9)]
    found = summary([*blocks, Block((Sample(50.0, 7.0),), 0.5, 1.0)], "core", 123, Target(), HERE)
    assert found.latency == Interval(1.01, 1.04, 1.07, pytest.approx(1 - 20 / 512))
    assert found.ratio == Interval(2.02, 2.08, 2.14, found.latency.confidence)
    assert (found.steady, found.blocks, found.runs, found.sentinel, found.file_bytes) == (True, 9, 28, 0.5, 123)
    assert (found.p50, found.p90, found.p99, found.contention) == (3.0, 9.0, 50.0, 3.0 / 1.04)
    assert summary(blocks, "wall", 123, Target(), HERE).latency.middle == 2.0


def test_a_summary_without_steady_blocks_says_so() -> None:
    found = summary([Block((Sample(1.0, 1.0),), 0.5, 1.0)] * 9, "core", 123, Target(), HERE)
    assert (found.steady, found.blocks) == (False, 9)


def test_times_that_cannot_be_are_refused() -> None:
    blocks = [Block((Sample(math.nan, 1.0),), 0.5, 0.5)] * 9
    with pytest.raises(ValueError, match="must be positive and finite"):
        summary(blocks, "core", 123, Target(), HERE)


def test_a_file_is_measured(exported: Callable[..., Path]) -> None:
    path = exported("torchscript")
    found = measure(path, Target(batch_size=3), seconds=0.05)
    assert isinstance(found, Measurement)
    assert found.latency.low <= found.latency.middle <= found.latency.high
    assert found.p50 <= found.p90 <= found.p99
    assert (found.clock, found.file_bytes, found.target, found.peak_bytes) == ("core", path.stat().st_size, Target(3), None)
    assert found.runs >= 3 * found.blocks >= 24
    assert measure(path.read_bytes(), Target(threads=2), inputs={"images": np.zeros((1, 8, 8, 3), np.uint8)}, seconds=0.05).clock == "wall"


def test_two_files_are_compared(exported: Callable[..., Path]) -> None:
    """A network against one of hundreds of times its work, which no load can hide."""
    found = compare(exported("torchscript"), sentinel(), Target(), seconds=0.05)
    assert found.verdict in ("faster", "indistinguishable")
    assert found.ratio.middle < 1
    assert found.clock == "core"


def test_separate_measurements_are_compared_in_units_of_the_sentinel() -> None:
    def measured(milliseconds: float, sentinel: float, threads: int = 1) -> Measurement:
        blocks = [Block((Sample(milliseconds, milliseconds * (1 + i / 1000)),), sentinel, sentinel) for i in range(9)]
        return summary(blocks, "core", 123, Target(1, threads), HERE)

    assert verdict_between(measured(1.0, 0.5), measured(2.0, 1.0)) == "indistinguishable"
    assert verdict_between(measured(1.0, 0.5), measured(1.5, 0.5)) == "faster"
    assert verdict_between(measured(1.0, 0.5), measured(1.0, 1.0)) == "slower"
    with pytest.raises(ValueError, match="measure both on one machine for one target"):
        verdict_between(measured(1.0, 0.5), measured(1.0, 0.5, 2))
