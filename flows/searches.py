"""The search section of params.yaml: one search, or several that follow each other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema

from nas.components import component, component_name, near
from nas.evaluators.base import Evaluator
from nas.evaluators.proxy import Proxy
from nas.evaluators.scratch import Scratch
from nas.file_metrics import added, qualities
from nas.objective import Objective
from nas.search import mismatch
from nas.spaces.base import SearchSpace
from nas.strategies.base import Strategy
from nas.tasks.base import Task
from nas.training.proxy_names import Name

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
LARGEST_SEED = 2**63 - 1
"""What PyTorch takes."""
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


def _of_number(device: Any) -> Any:
    """A GPU by its number."""
    return f"cuda:{device}" if isinstance(device, int) and not isinstance(device, bool) else device


_DEVICE = Scratch.model_fields["device"].metadata
_DEVICE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, TypeAdapter(Annotated[str, *_DEVICE]).json_schema()]}
WorkerDevice = Annotated[str, BeforeValidator(_of_number), *_DEVICE, WithJsonSchema(_DEVICE_SCHEMA)]
Measures = Annotated[tuple[Name, ...], *Proxy.model_fields["measures"].metadata]


class Proxies(BaseModel):
    """Begin with the best of many architectures by zero-cost proxies; dropped when they do not agree with the scores."""

    model_config = STRICT

    measures: Measures = ("naswot", "logsynflow")
    """What to measure on a minibatch before any training; the candidates are ordered by the mean of their ranks."""
    pool: int = Field(100, ge=2)
    """Random architectures to measure; each costs about a tenth of a second for a small network."""
    seeds: int = Field(8, ge=1)
    """How many of the best to propose first."""
    features: bool = False
    """Also tell the strategy the measures; then every architecture that it considers costs as much as one of the pool."""


class Search(BaseModel):
    """The search for an architecture."""

    model_config = STRICT

    seed: Seed = 0
    """The only source of randomness of the search."""
    trials: int = Field(24, ge=1)
    """Architectures to evaluate; more of them later continue the same search, unless its trials share weights."""
    workers: int = Field(1, ge=1)
    """Processes that evaluate side by side, each with one thread; part of what determines the result."""
    devices: list[WorkerDevice] = []
    """One device for every worker, such as `[0, 0, 1, 1]` or `[cpu, cuda:0]`; empty leaves them all to the evaluator's device."""
    finalists: int = Field(3, ge=1)
    """How many of the best by `select` are compared on `confirm` to choose the winner."""
    max_failures: float = Field(0.5, ge=0, le=1)
    """Share of the trials that may fail; beyond it, from the tenth trial on, the search stops and says why. 1 never stops."""
    space: Annotated[SearchSpace, *component("spaces")]
    """The networks to search among."""
    strategy: Annotated[Strategy, *component("strategies")]
    """How the next architecture is proposed."""
    evaluator: Annotated[Evaluator, *component("evaluators")]
    """How a proposal is judged."""
    objective: Objective = Objective()
    """What makes one architecture better than another."""

    measure: list[str] = []
    """Metrics of the exported file to measure though the objective names none of them, such as `latency_ms`; see docs/measuring.md."""
    preflight: bool = True
    """Export a few architectures that hold every option of the space before anything is trained, so that one that cannot ship is found."""
    warm_start: list[str] = []
    """Folders of earlier searches (`.nasflow/search-…`) in the same space, whose best are proposed first."""
    proxies: Proxies | None = None
    """Begin with the best of many architectures by zero-cost proxies; null for none."""

    def mistakes(self, task: Task) -> Iterator[str]:
        """Say what does not go together, one sentence each, beginning with the key."""
        files = added(task.metric_names)
        known = tuple(dict.fromkeys((*self._reported(task), *files)))
        metrics = self.objective.names[: len(self.objective.metrics)]
        for key, names in (("objective.metrics", metrics), ("objective.constraints", list(self.objective.constraints))):
            for name in names:
                if name not in known:
                    yield f"{key}: {self._unknown(name, known, task)}"
        yield from (f"measure: no metric of files is named {name!r}; {near(name, files)}" for name in self.measure if name not in files)
        weighted = sorted(self.measured(task) & set(qualities(task.metric_names)))
        if weighted and "network" not in self.evaluator.provides:
            name = component_name(self.evaluator)
            yield f"objective: {weighted[0]!r} is scored on a trained file, but {name!r} trains no network alone: use 'scratch'"
        if wrong := mismatch(self.strategy, self.evaluator):
            yield f"strategy: {wrong}"
        if self.workers > 1 and self.evaluator.commit_every > 1:
            yield f"workers is {self.workers}, but the evaluator shares weights between trials, which only one process can: set it to 1"
        yield from self._wrong_devices()

    def _reported(self, task: Task) -> tuple[str, ...]:
        return self.evaluator.metric_names(task.metric_names)

    def _unknown(self, name: str, known: Sequence[str], task: Task) -> str:
        """Why a metric cannot be had; a near name is no help where the name is right, but the evaluator does not tell it."""
        if name not in task.metric_names:
            return f"no metric is named {name!r}; {near(name, known)}"
        reported = ", ".join(self._reported(task))
        return f"the evaluator {component_name(self.evaluator)!r} does not report {name!r}: take one of {reported}, or another evaluator"

    def measured(self, task: Task) -> frozenset[str]:
        """Return the metrics of exported files that this search needs or was asked for."""
        return frozenset({*self.objective.names, *self.measure} & set(added(task.metric_names)))

    def _wrong_devices(self) -> Iterator[str]:
        name, fields = component_name(self.evaluator), type(self.evaluator).model_fields
        if self.devices and "device" not in fields:
            yield f"devices is {self.devices}, but the evaluator {name!r} has no setting 'device': leave devices empty"
        elif self.devices and self.evaluator.commit_every > 1:
            yield f"devices is {self.devices}, but the evaluator {name!r} runs in one process: leave devices empty and set evaluator.device"
        elif self.devices and len(self.devices) != self.workers:
            yield f"devices names {len(self.devices)}, but workers is {self.workers}: name one for every worker, or none"


def merged(document: Any) -> Any:
    """Return the entries of a search section as a list, each completed by the one before.

    An entry takes what it does not name from the entry before it; of a component with the same `name`, what that does not name.
    """
    entries = document if isinstance(document, list | tuple) else [document]
    complete: list[Any] = []
    for entry in entries:
        both = complete and isinstance(entry, Mapping) and isinstance(complete[-1], Mapping)
        complete.append(_over(complete[-1], entry) if both else entry)
    return complete


def _over(before: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    result = {**before, **entry}
    for key, value in entry.items():
        former = before.get(key)
        if isinstance(value, Mapping) and isinstance(former, Mapping) and value.get("name", former.get("name")) == former.get("name"):
            result[key] = _over(former, value)
    return result
