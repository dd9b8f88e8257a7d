"""What several processes have counted becomes the numbers of one server."""

from collections.abc import Iterable, Sequence
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

Sample = tuple[str, dict[str, str], float]
"""Its name, its labels, its value."""
Counts = list[tuple[str, str, str, list[Sample]]]
"""Of each metric of a process: its name, its documentation, its kind, its samples. JSON keeps all of it but the tuples."""
_ONLY_GROW = frozenset({"counter", "histogram"})


def counts_of(registry: CollectorRegistry) -> Counts:
    """What a registry holds now."""
    return [
        (metric.name, metric.documentation, metric.type, [(sample.name, sample.labels, sample.value) for sample in metric.samples])
        for metric in registry.collect()
    ]


@final
class Totals:
    """Adds processes up: what only grows goes on where a process has ended, the rest is that of the processes that live."""

    def __init__(self) -> None:
        self._ended: Counts = []

    def end(self, last: Counts) -> None:
        """Keep the last counts of a process that has ended."""
        self._ended = _sum([self._ended, [metric for metric in last if metric[2] in _ONLY_GROW]])

    def text(self, living: Sequence[Counts]) -> bytes:
        """The numbers of the server in Prometheus's text format."""
        return generate_latest(_Listed(_sum([*living, self._ended])))  # type: ignore[arg-type, unused-ignore]


@final
class _Listed(Collector):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """What `generate_latest` asks for."""
        for name, documentation, kind, samples in self._counts:
            metric = Metric(name, documentation, kind)
            for sample in samples:
                metric.add_sample(*sample)
            yield metric


@final
class Supervision:
    """What the parent of several processes counts itself."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._ready = Gauge("nasflow_processes", "Processes that serve", registry=self._registry)
        self._deaths = Counter("nasflow_process_deaths", "Processes that ended without being told to", registry=self._registry)

    def ready(self, count: int) -> None:
        """So many processes serve."""
        self._ready.set(count)

    def died(self) -> None:
        """Count a process that ended by itself."""
        self._deaths.inc()

    def counts(self) -> Counts:
        """All of it."""
        return counts_of(self._registry)


def _sum(several: Iterable[Counts]) -> Counts:
    found: dict[str, tuple[str, str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]] = {}
    for counts in several:
        for name, documentation, kind, samples in counts:
            _, _, values = found.setdefault(name, (documentation, kind, {}))
            for sample, labels, value in samples:
                key = sample, tuple(labels.items())
                values[key] = _together(sample, kind, values[key], value) if key in values else value
    return [
        (name, documentation, kind, [(sample, dict(labels), value) for (sample, labels), value in values.items()])
        for name, (documentation, kind, values) in found.items()
    ]


def _together(sample: str, kind: str, one: float, other: float) -> float:
    """The value of two processes."""
    if sample.endswith(("_created", "_start_time_seconds")):
        return min(one, other)
    return max(one, other) if kind == "info" else one + other
