"""What `benchmark.py` wrote on another device, read as a stranger's file: checked whole, and every fault is one sentence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from nas.components import rule
from nas.rerank import Latency

_READ = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True, frozen=True)
_Milliseconds = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=1)]
_Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=200)]
"""Is shown in a terminal, where a stranger's control characters have no business."""


@final
class Timing(BaseModel):
    """The median of one model in one setting; older files have no interval."""

    model_config = _READ

    batch_size: _Count
    threads: _Count
    p50_ms: _Milliseconds
    p50_low_ms: _Milliseconds | None = None
    p50_high_ms: _Milliseconds | None = None

    @property
    def latency(self) -> Latency:
        """The median with its interval, or three times itself."""
        return Latency(self.p50_low_ms or self.p50_ms, self.p50_ms, self.p50_high_ms or self.p50_ms)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.latency.low <= self.latency.middle <= self.latency.high:
            raise ValueError("the interval p50_low_ms to p50_high_ms must hold p50_ms")
        return self


class _Machine(BaseModel):
    model_config = _READ

    processor: _Name


class _File(BaseModel):
    model_config = _READ

    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Timed(_File):
    measurements: list[Timing] = Field(min_length=1)


class _Head(BaseModel):
    model_config = _READ

    machine: _Machine
    provider: _Name


class _One(_Head):
    """Format 1: one model."""

    format: Literal[1]
    model: _File
    measurements: list[Timing] = Field(min_length=1)

    @property
    def timed(self) -> dict[str, list[Timing]]:
        return {self.model.sha256: self.measurements}


class _Several(_Head):
    """Format 2: several models, which took turns."""

    format: Literal[2]
    models: list[_Timed] = Field(min_length=1)

    @property
    def timed(self) -> dict[str, list[Timing]]:
        return {model.sha256: model.measurements for model in self.models}


_EITHER: TypeAdapter[_One | _Several] = TypeAdapter(Annotated[_One | _Several, Field(discriminator="format")])


@final
@dataclass(frozen=True, slots=True)
class Device:
    """One file of measurements. name: of the file; timings: by the SHA-256 of the model."""

    name: str
    processor: str
    provider: str
    timings: Mapping[str, Sequence[Timing]]


def read(path: Path) -> Device:
    """Read a file that benchmark.py wrote, of one model or of several.

    Raises ValueError in one sentence where it is something else, FileNotFoundError where there is none.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        found = _EITHER.validate_json(json.dumps(content))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist: give a file that benchmark.py wrote on a device") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if not isinstance(part, int) or part > 2)
        raise ValueError(
            f"{path} is not what benchmark.py writes ({place or 'the file'}: {rule(first)}): copy it again from the device"
        ) from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested without end
        raise ValueError(f"{path} is not what benchmark.py writes (it is no JSON): copy it again from the device") from error
    return Device(path.name, found.machine.processor, found.provider, found.timed)


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """How the models were run whose times are compared."""

    batch_size: int
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch_size}, threads {self.threads}"


def setting_of(device: Device, asked: Setting | None, target: Setting) -> Setting:
    """Return the setting of a device whose times count: what was asked for, or else the target's, or else the only one that it has.

    Raises ValueError when it has not what was asked for, or several and not the target's.
    """
    known = dict.fromkeys(Setting(one.batch_size, one.threads) for timings in device.timings.values() for one in timings)
    wanted = asked or target
    if wanted in known:
        return wanted
    if asked is None and len(known) == 1:
        return next(iter(known))
    has = "; ".join(map(str, known))
    raise ValueError(f"{device.name} has times of {has}, not of {wanted}: take one of these with --setting BATCH THREADS, or measure again")


def latencies(device: Device, setting: Setting) -> dict[str, Latency]:
    """Return the latencies of one setting by the SHA-256 of the model; what was not timed so is left out."""
    found: dict[str, Latency] = {}
    for digest, timings in device.timings.items():
        for one in timings:
            if Setting(one.batch_size, one.threads) == setting:
                found.setdefault(digest, one.latency)
    return found
