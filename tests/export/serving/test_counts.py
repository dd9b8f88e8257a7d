"""Counts of several processes add up, and those of a process that has ended are not lost."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from export.serving.counts import Counts, Totals, counts_of


def counted(requests: int, waiting: int) -> Counts:
    registry = CollectorRegistry()
    counter = Counter("requests", "Requests", ["code"], registry=registry)
    seconds = Histogram("seconds", "Seconds", buckets=[1.0, 2.0], registry=registry)
    Gauge("waiting", "Requests that wait", registry=registry).set(waiting)
    Gauge("process_start_time_seconds", "When", registry=registry).set(1000 + requests)
    Info("model", "The model", registry=registry).info({"name": "birds"})
    for _ in range(requests):
        counter.labels("200").inc()
        seconds.observe(1.5)
    counter.labels(f"40{requests}").inc()
    return counts_of(registry)


def lines(totals: Totals, *living: Counts) -> dict[str, float]:
    found = [line.rsplit(" ", 1) for line in totals.text(living).decode().splitlines() if not line.startswith("#")]
    assert len({key for key, _ in found}) == len(found)
    return {key: float(value) for key, value in found}


def test_processes_add_up() -> None:
    found = lines(Totals(), counted(3, 1), counted(4, 5))
    assert found['requests_total{code="200"}'] == 7
    assert found['requests_total{code="403"}'] == found['requests_total{code="404"}'] == 1
    assert [found[f'seconds_bucket{{le="{bound}"}}'] for bound in ("1.0", "2.0", "+Inf")] == [0, 7, 7]
    assert (found["seconds_count"], found["seconds_sum"]) == (7, 10.5)
    assert found["waiting"] == 6
    assert found["process_start_time_seconds"] == 1003
    assert found['model_info{name="birds"}'] == 1


def test_what_has_ended_counts_and_waits_no_more() -> None:
    totals = Totals()
    totals.end(counted(3, 1))
    totals.end([])  # it died before it was asked
    totals.end(counted(3, 1))
    found = lines(totals, counted(4, 5))
    assert found['requests_total{code="200"}'] == 10
    assert found["seconds_count"] == 10
    assert found["waiting"] == 5
    assert found["process_start_time_seconds"] == 1004
    assert lines(totals)['requests_total{code="200"}'] == 6
    assert "waiting" not in lines(totals)


def test_one_process_reads_as_it_would_alone() -> None:
    registry = CollectorRegistry()
    Counter("requests", "Requests", ["kind", "code"], registry=registry).labels("other", "200").inc()
    Histogram("seconds", "Seconds", registry=registry).observe(0.1)
    assert Totals().text([counts_of(registry)]) == generate_latest(registry)
