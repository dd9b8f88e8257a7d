"""What Prometheus may ask of a server, in a registry of its own."""

from collections.abc import Callable
from functools import cache
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from export.serving.counts import Counts, counts_of
from export.serving.model import VERSION, Model

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
INFERENCE, OTHER = "inference", "other"


@final
class Metrics:
    """Counters and histograms of one server; all names begin with nasflow_, those of the process with process_."""

    def __init__(self, model: Model) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        requests = Counter("nasflow_requests", "Requests answered", ["kind", "code"], registry=self._registry)
        # Looking a label up costs more than counting.
        self._answered = cache(lambda kind, code: requests.labels(kind, str(code)))
        self._seconds = Histogram(
            "nasflow_inference_seconds", "From the head of an inference request to its answer", buckets=SECONDS, registry=self._registry
        )
        self._rows = Histogram("nasflow_batch_rows", "Rows in one run of the model", buckets=ROWS, registry=self._registry)
        self._together = Histogram("nasflow_batch_requests", "Requests in one run of the model", buckets=ROWS, registry=self._registry)
        self._waiting = Gauge("nasflow_queue_requests", "Requests that wait for a run", registry=self._registry)
        info = Info("nasflow_model", "The model that is served", registry=self._registry)
        info.info({"model": model.name, "model_version": VERSION, "sha256": model.sha256})

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Ask `length` how many requests wait, whenever somebody wants to know."""
        self._waiting.set_function(length)

    def answered(self, kind: str, code: int, seconds: float | None = None) -> None:
        """Count a request; seconds: what an inference took."""
        self._answered(kind, code).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def ran(self, requests: int, rows: int) -> None:
        """Count a run of the model."""
        self._together.observe(requests)
        self._rows.observe(rows)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)

    def counts(self) -> Counts:
        """All of it to be added to what other processes have counted."""
        return counts_of(self._registry)
