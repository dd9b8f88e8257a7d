"""What a strategy is told before a search begins: the choices, what is known of architectures, and where to start."""

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np

from flows import console
from flows.lineage import MISSING
from flows.searches import Proxies, Search
from nas import journal
from nas.architecture import Architecture, Choices
from nas.evaluators.base import Bench
from nas.evaluators.proxy import Proxy
from nas.strategies.base import Strategy
from nas.training.proxy_names import ProxyError
from nas.trial import Proposal, Trial
from nas.warm_start import WarmStart, best_of, nearest_scores

_BEST_OF_EACH = 5
_POOL = 6  # what the stream of random numbers is for
_STREAM = 7  # keeps it from those that a search draws from (seed, trial)


def prepare(root: Path, chosen: Search, bench: Bench) -> Strategy:
    """Return the strategy of a search, bound to the space, and warm where that is asked for.

    Raises FileNotFoundError or ValueError when an earlier search cannot be used.
    """
    choices = bench.space.choices(bench.task)
    proxy = None if chosen.proxies is None else Proxy(measures=chosen.proxies.measures).bind(bench)

    @cache
    def features(architecture: Architecture) -> tuple[float, ...]:
        known = [*bench.space.features(architecture), *chosen.evaluator.features(architecture).values()]
        if proxy is not None and chosen.proxies is not None and chosen.proxies.features:
            known += proxy.features(architecture).values()
        return tuple(known)

    any_known = bool(features(choices.sample(np.random.default_rng(0))))
    strategy = chosen.strategy.bind(
        choices,
        features if any_known else None,
        lambda architecture: bench.space.canonical(architecture, bench.task),
        lambda mixture: bench.space.discretize(mixture, bench.task),
    )
    if proxy is not None and chosen.proxies is not None:
        strategy = _warmed_by_proxies(strategy, proxy, chosen.proxies, choices, bench.seed)
    for path in chosen.warm_start:
        strategy = _warmed_by_search(strategy, root / path, choices)
    return strategy


def digests(root: Path, chosen: Search) -> dict[str, str]:
    """Return the digest of every earlier search's journal: part of what determines this one."""
    found = {}
    for path in chosen.warm_start:
        file = root / path / "journal.jsonl" if (root / path).is_dir() else root / path
        if not file.is_file():
            raise FileNotFoundError(f"search.warm_start names {path}, which holds no journal.jsonl: name the folder of a search")
        found[path] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def files(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """Return the digest of every file that evaluators read, and `lineage.MISSING` for one that is gone."""
    found = {path: root / path for path in paths}
    return {path: hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else MISSING for path, file in found.items()}


def _warmed_by_search(strategy: Strategy, path: Path, choices: Choices) -> Strategy:
    trials = journal.read(path)
    for trial in trials[:1]:
        try:
            choices.check(trial.architecture)
        except ValueError as error:
            raise ValueError(f"search.warm_start names {path}, which searched another space ({error}): leave it out") from error
    seeds = best_of(trials, _BEST_OF_EACH)
    console.say(f"warm start: the best {len(seeds)} of {len(trials)} trials in {path.name}")
    return WarmStart.around(strategy, seeds, nearest_scores(trials))


def _warmed_by_proxies(strategy: Strategy, proxy: Proxy, chosen: Proxies, choices: Choices, seed: int) -> Strategy:
    prior = _proxy_prior(proxy)
    rng = np.random.default_rng([seed, _POOL, _STREAM])
    pool = list(dict.fromkeys(choices.sample(rng) for _ in range(chosen.pool)))
    different = {proxy.canonical(architecture): architecture for architecture in reversed(pool)}
    seeds = sorted(different.values(), key=lambda architecture: (-prior(architecture), pool.index(architecture)))[: chosen.seeds]
    console.say(f"warm start: the best {len(seeds)} of {len(different)} architectures by {' and '.join(chosen.measures)}")
    return WarmStart.around(strategy, seeds, prior)


def _proxy_prior(proxy: Proxy) -> Callable[[Architecture], float]:
    @cache
    def prior(architecture: Architecture) -> float:
        try:
            return float(proxy.evaluate(Trial(0, Proposal(architecture))).metrics["rank_sum"])
        except ProxyError:  # says nothing about this network, which then comes last
            return 0.0

    return prior
