"""What was measured once on a machine is not measured again: a folder of small JSON files, and the one call that uses it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from pydantic import TypeAdapter

from export import files
from export.machine import Machine, Target
from export.measure import Measurement

FORMAT = 1
_MEASUREMENT = TypeAdapter(Measurement)


@final
@dataclass(frozen=True)
class Measurements:
    """Measurements on disk, by structure, machine and target; `folder` is made when the first one is kept.

    A structure is `export.graph_hash`, so that weights and names do not matter; whoever wants a file's own latency again gives
    its digest instead. Processes may share the folder: the last one to keep an entry wins, and none reads half of one.
    """

    folder: Path

    def get(self, structure: str, machine: Machine, target: Target) -> Measurement | None:
        """What was kept, or None: also when the entry is damaged, of another format, or about something else."""
        try:
            entry = json.loads(self._path(structure, machine, target).read_bytes())
            if (entry["format"], entry["structure"]) != (FORMAT, structure):
                return None
            # JSON text again: lax about tuples and lists, strict about everything else.
            found = _MEASUREMENT.validate_json(json.dumps(entry["measurement"]), strict=True)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):  # pydantic's error is a ValueError
            return None
        return found if (found.machine, found.target) == (machine, target) else None

    def keep(self, structure: str, measurement: Measurement) -> None:
        """Write an entry, whole or not at all. Raises OSError when the disk does not take it."""
        entry = {"format": FORMAT, "structure": structure, "measurement": _MEASUREMENT.dump_python(measurement, mode="json")}
        path = self._path(structure, measurement.machine, measurement.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(entry, indent=1, sort_keys=True, allow_nan=False).encode())

    def fetch(self, structure: str, machine: Machine, target: Target, take: Callable[[], Measurement]) -> Measurement:
        """What was kept, or else what `take` measures now, which is kept.

        A doubtful measurement is repeated once; when both are doubtful, the one with the narrower interval is kept and says so, because
        a structure that has two latencies in one search would be worse. Raises what `take` and `keep` raise.
        """
        found = self.get(structure, machine, target)
        if found is None:
            found = take()
            if not found.steady:
                found = min(found, take(), key=_doubt)
            self.keep(structure, found)
        return found

    def _path(self, structure: str, machine: Machine, target: Target) -> Path:
        key = json.dumps([FORMAT, structure, asdict(machine), asdict(target)], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _doubt(measurement: Measurement) -> tuple[bool, float]:
    """Smaller is better: steady first, then the narrower interval."""
    return not measurement.steady, measurement.latency.high / measurement.latency.low
