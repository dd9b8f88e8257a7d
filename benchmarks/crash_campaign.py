"""Whether kills change results: searches, trainings and stages are killed with SIGKILL, started again, and compared with runs left alone.

    python benchmarks/crash_campaign.py --kills 200 --seed 0 [--kinds search training stage] [--pipelines 8]

Half of the kills come at random moments, half at the run's own n-th write that is made durable or visible: before it, after it, or
with a part of the data lost, as by a loss of power. A run is killed one to seven times before it ends. `--pipelines` adds kills of
the real `dvc repro` and `nasflow run`. The last line is JSON: kills that hit, how many of them were in runs that then ended
identical, and what differed elsewhere. Exits with 1 when anything did.
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

sys.path.extend(str(Path(__file__).parents[1] / "tests" / room) for room in ("support", "flows"))

import numpy as np
from killed_pipelines import COMMANDS, STAGES, built_once, differing, fresh, kill_in
from killed_searches import make_shared, search_jobs
from killed_stages import run_stages
from killed_trainings import TrainingJob
from killing import Job, Killer, Whole

KINDS = ("search", "training", "stage")
_TURNS = ("search", "search", "search", "training", "stage")
"""How often each kind comes; there are dozens of searches."""
_MOST_KILLS = 7


@final
@dataclass
class Score:
    """What the campaign found so far."""

    wanted: int
    kills: int = 0
    identical: int = 0
    runs: int = 0
    differing: list[dict[str, Any]] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def add(self, name: str, kills: int, wrong: Sequence[str]) -> None:
        """Take a run that was killed and ended, and print how far the campaign is."""
        self.kills, self.runs = self.kills + kills, self.runs + 1
        if wrong:
            self.differing.append({"run": name, "kills": kills, "what": list(wrong)})
        else:
            self.identical += kills
        seconds = time.monotonic() - self.start
        left = seconds / max(1, self.kills) * max(0, self.wanted - self.kills)
        verdict = f"DIFFERS: {'; '.join(wrong)}" if wrong else "identical"
        print(f"{self.kills:4}/{self.wanted} kills, {left:4.0f} s left | {name}: {kills} kills, {verdict}", flush=True)

    def report(self, seed: int) -> dict[str, Any]:
        """What the last line holds."""
        return {
            "kills": self.kills,
            "identical": self.identical,
            "differing": self.differing,
            "runs": self.runs,
            "seed": seed,
            "seconds": round(time.monotonic() - self.start, 1),
            "cores": len(os.sched_getaffinity(0)),
        }


def jobs(folder: Path, killer: Killer, kinds: Sequence[str], rng: np.random.Generator) -> Iterator[Job]:
    """Jobs without end, in a random order, the kinds by turns."""
    sources: dict[str, Iterator[Job]] = {}
    shared = folder / "shared"
    if {"search", "training"} & set(kinds):
        shared.mkdir()
        make_shared(shared)
    if "search" in kinds:
        searches = search_jobs(shared)
        sources["search"] = itertools.cycle([searches[index] for index in rng.permutation(len(searches))])
    if "training" in kinds:
        sources["training"] = itertools.cycle([TrainingJob(shared, seed) for seed in range(3)])
    if "stage" in kinds:
        sources["stage"] = itertools.cycle([job for job, _ in run_stages(folder / "stages", killer)])
    for kind in itertools.cycle(turn for turn in _TURNS if turn in kinds):
        yield next(sources[kind])


def kill_jobs(folder: Path, kinds: Sequence[str], killer: Killer, score: Score, rng: np.random.Generator) -> None:
    """Kill jobs until there were as many kills as wanted."""
    wholes: dict[str, Whole] = {}
    for number, job in enumerate(jobs(folder, killer, kinds, rng)):
        wanted = min(int(rng.integers(1, _MOST_KILLS + 1)), score.wanted - score.kills)
        if wanted <= 0:
            return
        with tempfile.TemporaryDirectory(dir=folder) as place:
            try:
                if str(job) not in wholes:
                    wholes[str(job)] = killer.whole(job, Path(place, "whole"))
                broken = killer.broken(job, Path(place, "broken"), wholes[str(job)], wanted, rng)
            except AssertionError as error:
                score.add(f"{number} {job}", 0, [f"failed: {str(error).strip().splitlines()[-1]}"])
                continue
        score.add(f"{number} {job}", broken.kills, broken.differing)


def kill_pipelines(folder: Path, count: int, score: Score, rng: np.random.Generator) -> None:
    """Kill the real commands `count` times, each project twice, in stages that follow each other."""
    score.wanted += count
    built = built_once(folder)
    whole, ways = built.content(*STAGES), itertools.cycle(COMMANDS)
    while count > 0:
        way, place = next(ways), folder / f"pipeline-{count}"
        first, second = sorted(rng.choice(len(STAGES), 2, replace=False).tolist())
        project = fresh(built, place)
        hits = sum(kill_in(project, way, STAGES[stage], rng) for stage in (first, second)[:count])
        project.run(*COMMANDS[way])
        score.add(f"{' '.join(COMMANDS[way])} killed in {STAGES[first]} and {STAGES[second]}", hits, differing(project, whole))
        count -= max(1, hits)


@contextlib.contextmanager
def ended_cleanly() -> Iterator[None]:
    """Let a request to end the campaign clear up as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    """Read the options, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--pipelines", type=int, default=0, help="kills of the real commands, on top")
    options = parser.parse_args()
    score, rng = Score(options.kills), np.random.default_rng(options.seed)
    with ended_cleanly(), tempfile.TemporaryDirectory(prefix="crash-campaign-") as folder:
        if options.kills:
            with Killer() as killer:
                kill_jobs(Path(folder), options.kinds, killer, score, rng)
        if options.pipelines:
            kill_pipelines(Path(folder), options.pipelines, score, rng)
    print(json.dumps(score.report(options.seed)))
    return 1 if score.differing else 0


if __name__ == "__main__":
    sys.exit(main())
