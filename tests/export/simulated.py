"""A machine in numbers: a clock that only simulated runs advance, and models whose runs are slowed down as on a busy machine."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from export.timing import Open, Run, Sample


@dataclass
class Simulated:
    """All noise is drawn from `rng`. noise: of a run, as a share. preempted: share of runs that somebody else's 4 ms interrupt.

    sessions: how far sessions of one file differ, as a share. speed: what a run takes at a time, as a factor; 1 at rest.
    """

    rng: np.random.Generator
    noise: float = 0.03
    preempted: float = 0.2
    sessions: float = 0.02
    speed: Callable[[float], float] = lambda now: 1.0
    seconds: float = 0.0
    opened: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def model(self, milliseconds: float, opening: float = 0.005) -> Open:
        """A model that takes so long at rest; opening: seconds to open a session of it."""

        def opened() -> Run:
            self.seconds += opening
            self.opened.append(milliseconds)
            own = milliseconds * float(np.exp(self.rng.normal(0, self.sessions)))

            def run() -> Sample:
                core = own * self.speed(self.seconds) * float(np.exp(abs(self.rng.normal(0, self.noise))))
                others = float(self.rng.exponential(4.0)) if self.rng.random() < self.preempted else 0.0
                self.seconds += (core + others) / 1000
                return Sample(core + others, core)

            return run

        return opened
