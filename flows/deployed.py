"""What the export stage makes of one trained network: its variants, which of them ships, and what is known of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from export import files
from export.structures import measured
from flows.costing import costing_of
from flows.settings import Settings
from flows.variants import FLOAT, INT8, Variant, choose, quantized, variant
from nas.data.dataset import Dataset
from nas.objective import Objective
from nas.tasks.base import Task

_LONGER = 5.0
"""Times as long a file is timed that seems to miss its latency, before that is believed."""


@final
class Files:
    """The variants of one trained network; `made` holds them by name."""

    def __init__(self, root: Path, settings: Settings, winner: Mapping[str, Any], task: Task, dataset: Dataset) -> None:
        self._settings, self._winner, self._task, self._dataset = settings, winner, task, dataset
        self._costing = costing_of(root, settings)
        self._objective = Objective.model_validate(winner["objective"])
        self._missing = ""
        self.made: dict[str, Variant] = {}

    def ships(self, model: Path, logits: NDArray[Any]) -> tuple[Variant, str]:
        """Score and time the file in floats and its int8 variant; return the one that ships, and why.

        One that meets the constraints goes before one that does not; where other devices decide, the one in floats, which is what they
        measured. `logits` are those of the file in floats, on the test images.
        """
        self.made[FLOAT] = self._variant(FLOAT, model, logits)
        if self._settings.export.int8 == "measure":
            path = model.with_name("int8.onnx")
            self._missing = quantized(model, path, self._dataset) or ""
            if not self._missing:
                self.made[INT8] = self._variant(INT8, path, logits)
        chosen, why = choose(
            self.made[FLOAT], self.made.get(INT8), self._winner["metric"], self._winner["sign"], self._settings.export.int8_loss
        )
        if self._settings.export.measured is not None:
            return self.made[FLOAT], f"floats: export.measured is about them ({why})"
        if not self._objective.broken(self.metrics(chosen)):
            return chosen, why
        for other in self.made.values():
            if other is not chosen and not self._objective.broken(self.metrics(other)):
                return other, f"{other.name}: the other variant breaks a constraint ({why})"
        return chosen, why

    def _variant(self, name: str, path: Path, logits: NDArray[Any]) -> Variant:
        memory = any(name.endswith("peak_memory") for name in self._objective.names)
        # By the file's own digest: what ships is measured again, whatever was measured of its structure during the search.
        measurement = measured(files.digest(path), lambda: path, self._costing, memory=memory)
        found = variant(name, path, self._task, self._dataset, logits, measurement)
        elsewhere = self._settings.export.measured is not None
        if elsewhere or "latency_ms" not in self._objective.constraints or not self._objective.broken(found.figures):
            return found
        patient = replace(self._costing, seconds=_LONGER * self._costing.seconds)
        return replace(found, measurement=measured(f"{files.digest(path)} longer", lambda: path, patient, memory=memory))

    def metrics(self, ships: Variant) -> dict[str, float]:
        """Everything that a constraint may be about and that can be measured now: costs of the file, and its scores on `confirm`."""
        found = {**ships.confirm, **{f"file_{name}": value for name, value in ships.confirm.items()}, **ships.figures}
        if INT8 in self.made:
            int8 = self.made[INT8]
            found |= {f"int8_{name}": value for name, value in {**int8.confirm, **int8.figures}.items()}
        return found

    def record(self, ships: Variant, why: str, held: Mapping[str, str]) -> dict[str, Any]:
        """What the manifest says of all this."""
        found = ships.measurement
        latency: dict[str, Any] = {"ms": found.latency.middle, "low": found.latency.low, "high": found.latency.high}
        latency |= {"p50_ms": found.p50, "p90_ms": found.p90, "p99_ms": found.p99, "clock": found.clock, "contention": found.contention}
        elsewhere = self._settings.export.measured
        return {
            **({} if elsewhere is None else {"measured_elsewhere": [one.model_dump() for one in elsewhere.devices]}),
            "ships": ships.name,
            "why": why if not self._missing else f"{ships.name}: there is no int8 variant ({self._missing})",
            "graph": ships.graph,
            "timed_in_search": self._winner.get("graph"),
            "constraints": dict(held),
            "latency": {**latency, "steady": found.steady, **asdict(found.target), **asdict(found.machine)},
            "variants": {name: one.record() for name, one in self.made.items()},
        }

    def others(self, ships: Variant) -> dict[str, bytes]:
        """Files of the bundle besides the one that ships: the other variants, and what all of them score."""
        record = {name: one.record() for name, one in self.made.items()}
        found = {f"variants/{name}.onnx": one.path.read_bytes() for name, one in self.made.items() if one is not ships}
        return {**found, "variants/variants.json": (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()}
