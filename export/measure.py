"""How long does an ONNX file take on this machine, and is it faster than another one? With intervals, and a verdict that may be a tie.

Hold `export.quiet.machine_quiet` around both, so that nothing of ours computes beside them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from export.interval import Interval, Verdict, median_interval, quantile, verdict_of_ratio, verdict_of_times
from export.machine import Machine, Target, this_machine
from export.sentinel import sentinel
from export.session import Array
from export.timing import FEWEST, Block, Clock, Open, Pace, clock_of, level, observe, observe_pairs, opener


@final
@dataclass(frozen=True)
class Measurement:
    """What one file took on one machine; all times in milliseconds.

    latency: a run on this machine at rest, the median over blocks, with its interval. clock: what it was read from; "core" is
    processor time (one thread on the CPU, blind to an operator that sleeps), "wall" the lowest decile of the time that passed.
    p50, p90, p99: time that passed, over all runs, as a caller waited beside whatever else ran; contention: p50 / latency.
    sentinel: what the reference network took meanwhile; ratio: latency in units of it, taken block by block.
    steady: whether the sentinel kept its speed around enough blocks; if not, every block counted and all of it is doubtful.
    blocks, runs: how many blocks counted, and how many runs were timed in all. file_bytes: size of the file.
    peak_bytes: memory of a run, see `export.peak_memory`, None where it was not measured.
    """

    latency: Interval
    clock: Clock
    p50: float
    p90: float
    p99: float
    contention: float
    sentinel: float
    ratio: Interval
    steady: bool
    blocks: int
    runs: int
    file_bytes: int
    target: Target
    machine: Machine
    peak_bytes: int | None = None

    def __post_init__(self) -> None:
        times = (self.latency.low, self.latency.middle, self.latency.high, self.p50, self.p90, self.p99, self.sentinel)
        if not all(math.isfinite(value) and value > 0 for value in times):
            raise ValueError(f"the times of a measurement are {times}, but must be positive and finite")


@final
@dataclass(frozen=True)
class Comparison:
    """The first file against the second. ratio: its time in units of the second's, with a 99 % interval; blocks: pairs of blocks."""

    verdict: Verdict
    ratio: Interval
    clock: Clock
    blocks: int


def measure(model: Path | bytes, target: Target, *, inputs: Mapping[str, Array] | None = None, seconds: float = 0.5) -> Measurement:
    """Time a file as it will be deployed.

    model: an ONNX file, or its bytes. inputs: examples by input's name, else random ones, see `export.session.feed`. seconds: how
    long to measure; a slow model takes longer, at least eight blocks of three runs, and a machine that keeps changing its
    speed doubles it. Raises MeasureError when the file cannot be run so, FileNotFoundError when there is none.
    """
    clock = clock_of(target)
    reference = Target(1, target.threads, target.provider)
    blocks = observe(opener(model, target, inputs), opener(sentinel(), reference), clock, Pace(seconds))
    size = model.stat().st_size if isinstance(model, Path) else len(model)
    return summary(blocks, clock, size, target, this_machine())


def summary(blocks: Sequence[Block], clock: Clock, file_bytes: int, target: Target, machine: Machine) -> Measurement:
    """What the blocks say: the steady ones, or all of them when fewer than FEWEST are. Raises ValueError without blocks."""
    steady = [block for block in blocks if block.steady]
    used = steady if len(steady) >= FEWEST else blocks
    levels = [level(block.samples, clock) for block in used]
    wall = [sample.wall for block in blocks for sample in block.samples]
    latency = median_interval(levels)
    return Measurement(
        latency=latency,
        clock=clock,
        p50=quantile(wall, 0.5),
        p90=quantile(wall, 0.9),
        p99=quantile(wall, 0.99),
        contention=quantile(wall, 0.5) / latency.middle,
        sentinel=quantile([(block.before + block.after) / 2 for block in used], 0.5),
        ratio=median_interval([2 * value / (block.before + block.after) for value, block in zip(levels, used, strict=True)]),
        steady=used is steady,
        blocks=len(used),
        runs=len(wall),
        file_bytes=file_bytes,
        target=target,
        machine=machine,
    )


def verdict_between(first: Measurement, second: Measurement, margin: float = 0.03) -> Verdict:
    """What two measurements say about the first file, however long ago they were taken.

    Compared are the ratios to the sentinel: a machine whose own speed has changed meanwhile changes both. margin: what else moves
    between two measurements, as a share. Raises ValueError when they are not of one machine and target.
    """
    if (first.machine, first.target) != (second.machine, second.target):
        raise ValueError(
            f"a measurement on {first.machine} for {first.target} says nothing about one on {second.machine} for {second.target}: "
            "measure both on one machine for one target"
        )
    return verdict_of_times(first.ratio, second.ratio, margin)


def compare(
    first: Path | bytes, second: Path | bytes, target: Target, *, seconds: float = 2.0, margin: float = 0.03, seed: int = 0
) -> Comparison:
    """Is the first file faster than the second, slower, or can they not be told apart? Blocks of both alternate and meet one load.

    margin: the smallest difference that is worth a word, as a share; where the 99 % interval reaches into it, the answer is
    "indistinguishable", and the interval says whether they are close or only nobody knows. seconds: for both together, at least
    eight pairs of blocks. seed: of the order of the blocks. Errors as `measure`.
    """
    clock = clock_of(target)
    return compare_opened(
        opener(first, target), opener(second, target), clock, Pace(seconds), margin=margin, rng=np.random.default_rng(seed)
    )


def compare_opened(first: Open, second: Open, clock: Clock, pace: Pace, *, margin: float, rng: np.random.Generator) -> Comparison:
    """The same for anything that can be opened and run."""
    logarithms = observe_pairs(first, second, clock, pace, rng)
    found = median_interval(logarithms, 0.99)
    ratio = Interval(math.exp(found.low), math.exp(found.middle), math.exp(found.high), found.confidence)
    return Comparison(verdict_of_ratio(ratio, margin), ratio, clock, len(logarithms))
