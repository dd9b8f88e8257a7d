"""A latency that another device decides: what `nasflow rank --choose` writes to params.yaml, and what is judged by it."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from flows.searches import STRICT
from nas.rerank import Latency, slowest, with_latency

Milliseconds = Annotated[float, Field(gt=0)]
_CURE = "rank again with `nasflow rank --measured FILE --choose`, or set export.measured to null to judge the latency on this machine"


class OnDevice(BaseModel):
    """The latency of one graph on one device, with the interval of its median."""

    model_config = STRICT

    device: str = Field(min_length=1)
    """The device's processor, as its operating system calls it."""
    provider: str = Field(min_length=1)
    """What executed, by onnxruntime's name."""
    batch_size: int = Field(ge=1)
    """Images of one run."""
    threads: int = Field(ge=1)
    """Threads of one run."""
    latency_ms: Milliseconds
    """Milliseconds of one run, the median."""
    low: Milliseconds
    """The lower end of its interval."""
    high: Milliseconds
    """The upper end of its interval."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.latency_ms <= self.high:
            raise ValueError(f"the interval {self.low:g} to {self.high:g} does not hold {self.latency_ms:g}")
        return self


class Elsewhere(BaseModel):
    """What other devices measured of the candidate that is trained. `nasflow rank --choose` writes it; do not edit it by hand."""

    model_config = STRICT

    search: str
    """The search that found the candidate."""
    trial: int = Field(ge=0)
    """The candidate's trial."""
    graph: str
    """The hash of the graph that was measured; what ships must have the same."""
    devices: list[OnDevice] = Field(min_length=1)
    """The latencies, one per device."""


def latencies(measured: Elsewhere, metrics: Mapping[str, float]) -> list[dict[str, float]]:
    """Return the metrics of a file with the latency of each device, and of the slowest one last."""
    each = [Latency(one.low, one.latency_ms, one.high) for one in measured.devices]
    return [with_latency(metrics, one) for one in (*each, slowest(each))]


def require_same(measured: Elsewhere | None, winner: Mapping[str, Any]) -> None:
    """Raise ValueError when another candidate is to be trained than the one whose latencies are in the settings."""
    if measured is not None and (measured.search, measured.trial) != (winner["search"], winner["trial"]):
        raise ValueError(
            f"export.measured is about trial {measured.trial} of search {measured.search}, but trial {winner['trial']} of search "
            f"{winner['search']} is to be trained: {_CURE}"
        )


def wrong_graph(measured: Elsewhere, graph: str) -> list[str]:
    """Say that the file has another graph than the one that was measured elsewhere; nothing when it is the same."""
    if measured.graph == graph:
        return []
    return [f"its graph {graph[:16]} is not {measured.graph[:16]}, which was measured elsewhere ({_CURE})"]
