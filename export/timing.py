"""Timing a model on a machine that is never quite quiet: short blocks, a sentinel between them, fresh sessions.

Two clocks. "core" is the processor time of the one thread that computes: what a run takes while it has its core, which is what
it takes on a machine at rest, whoever else waits for the core meanwhile. It needs one thread and the CPU. Everything else has
only "wall", the time that passes, to which others can only add; there, the low end of a block is what tells about the model.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, final

import numpy as np

from export.interval import quantile
from export.machine import CPU, Target
from export.session import Array, feed, open_session, try_once

Clock = Literal["core", "wall"]
BLOCK_MS = 4.0
FEWEST, MOST = 8, 31  # blocks; 8 are the fewest that give an interval of 99 %
DRIFT = 0.1  # how far the sentinel may move, as a share, from one side of a block to the other


class Sample(NamedTuple):
    """One run: milliseconds that passed, and milliseconds of processor time of the calling thread."""

    wall: float
    core: float


Run = Callable[[], Sample]
Open = Callable[[], Run]
"""Opens a fresh session and gives what runs it once. Two sessions of one file differ by some per cent, by where memory lies."""


@final
@dataclass(frozen=True)
class Block:
    """Successive runs of the model, and what the sentinel took before and after them, milliseconds."""

    samples: tuple[Sample, ...]
    before: float
    after: float

    @property
    def steady(self) -> bool:
        """Whether the machine had the same speed on both sides."""
        return abs(math.log(self.after / self.before)) <= math.log(1 + DRIFT)


@final
@dataclass(frozen=True)
class Pace:
    """How long to measure. seconds: wanted; never fewer than FEWEST blocks. now: a clock in seconds."""

    seconds: float
    now: Callable[[], float] = time.perf_counter


def clock_of(target: Target) -> Clock:
    """The clock that tells most about the model itself."""
    return "core" if target.threads == 1 and target.provider == CPU else "wall"


def opener(model: Path | bytes, target: Target, inputs: Mapping[str, Array] | None = None) -> Open:
    """Sessions of a file for a target; each has run once when it is given. Errors as `open_session`, `feed` and `try_once`."""

    def opened() -> Run:
        session = open_session(model, target)
        batch = feed(session, target.batch_size, inputs)
        try_once(session, batch)

        def run() -> Sample:
            core, wall = time.thread_time_ns(), time.perf_counter_ns()
            session.run(None, batch)
            ended = time.perf_counter_ns()
            return Sample((ended - wall) / 1e6, (time.thread_time_ns() - core) / 1e6)

        return run

    return opened


def level(samples: Sequence[Sample], clock: Clock) -> float:
    """What a run of a block takes, milliseconds: the median by "core", the lowest decile by "wall"."""
    if clock == "core":
        return quantile([sample.core for sample in samples], 0.5)
    return quantile([sample.wall for sample in samples], 0.1)


def warm_up(run: Run, clock: Clock, pace: Pace) -> float:
    """Run until two windows of five agree within 5 %, at least once and at most for `pace`; return the level of the last window."""
    begin = pace.now()
    samples = [run()]
    while pace.now() - begin < pace.seconds:
        samples.append(run())
        if len(samples) >= 10 and abs(math.log(level(samples[-5:], clock) / level(samples[-10:-5], clock))) < math.log(1.05):
            break
    return level(samples[-5:], clock)


def runs_for(one: float, most: int = 50) -> int:
    """How many runs of `one` ms make a block: three at least, for a median."""
    return max(3, min(most, math.ceil(BLOCK_MS / max(one, 1e-6))))


def observe(model: Open, reference: Open, clock: Clock, pace: Pace) -> list[Block]:
    """Blocks of `model` with the sentinel `reference` between them, until MOST are steady or the time is over.

    At least FEWEST steady blocks are waited for, up to twice the time; unsteady ones are in the list too. Fresh sessions of the
    model are opened as often as a third of the time allows.
    """
    begin = pace.now()
    watch = reference()
    watch_runs = runs_for(warm_up(watch, clock, Pace(pace.seconds / 20, pace.now)))
    sessions = Sessions(model, clock, pace)
    before = level(_block(watch, watch_runs), clock)
    blocks: list[Block] = []
    while not _enough(blocks, pace.now() - begin, pace.seconds):
        run = sessions.next()
        samples = _block(run, sessions.runs)
        after = level(_block(watch, watch_runs), clock)
        blocks.append(Block(tuple(samples), before, after))
        before = after
    return blocks


def observe_pairs(first: Open, second: Open, clock: Clock, pace: Pace, rng: np.random.Generator) -> list[float]:
    """Logarithms of the ratio first / second, one per block of both, interleaved as 1 2 2 1 or 2 1 1 2 by a coin.

    The coin makes the order's own effect symmetric, and the mirrored halves cancel a speed that drifts. FEWEST to MOST blocks.
    """
    begin = pace.now()
    pair = [Sessions(model, clock, Pace(pace.seconds / 2, pace.now)) for model in (first, second)]
    ratios: list[float] = []
    while len(ratios) < FEWEST or (len(ratios) < MOST and pace.now() - begin < pace.seconds):
        runs = [sessions.next() for sessions in pair]
        samples: list[list[Sample]] = [[], []]
        leader = int(rng.integers(2))
        for index in (leader, 1 - leader, 1 - leader, leader):
            samples[index] += _block(runs[index], math.ceil(pair[index].runs / 2))
        ratios.append(math.log(level(samples[0], clock) / level(samples[1], clock)))
    return ratios


@final
class Sessions:
    """A supply of warm sessions: fresh ones as long as opening them has taken less than a third of the time that passed."""

    def __init__(self, model: Open, clock: Clock, pace: Pace) -> None:
        self._model, self._clock, self._pace = model, clock, pace
        self._begin = pace.now()
        self._run, self.runs = self._open()
        self._opening = pace.now() - self._begin
        self._given = False

    def next(self) -> Run:
        """A fresh session when there is time for one, else the last one."""
        start = self._pace.now()
        if self._given and self._opening < (start - self._begin) / 3:
            self._run, _ = self._open()
            self._opening += self._pace.now() - start
        self._given = True
        return self._run

    def _open(self) -> tuple[Run, int]:
        run = self._model()
        return run, runs_for(warm_up(run, self._clock, Pace(self._pace.seconds / 20, self._pace.now)))


def _block(run: Run, runs: int) -> list[Sample]:
    run()  # what ran before has taken the caches
    return [run() for _ in range(runs)]


def _enough(blocks: Sequence[Block], elapsed: float, seconds: float) -> bool:
    steady = sum(block.steady for block in blocks)
    if elapsed < seconds:
        return steady >= MOST
    return steady >= FEWEST or (len(blocks) >= FEWEST and elapsed >= 2 * seconds)
