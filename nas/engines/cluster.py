"""What the settings of every cluster have in common."""

from abc import ABC
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from nas.components import component_name
from nas.engines.base import Engine


class Cluster(Engine, ABC):
    """Nodes that an address leads to, or without one processes of this machine."""

    address: str | None = None
    """Where the cluster listens; null starts one on this machine, to try it."""
    nodes: int = Field(2, ge=1)
    """Nodes of a cluster on this machine, each a process; one that has an address brings its own."""
    gpus: float = Field(0.0, ge=0, le=1)
    """Share of a GPU for each trial, such as 0.5, of the GPUs that nodes offer (docs/scale.md says how); 0 leaves GPUs alone."""
    wait_seconds: float = Field(60.0, gt=0)
    """How long to wait for the cluster and a first node with room for a trial."""

    @model_validator(mode="after")
    def _has_gpus(self) -> Self:
        if self.gpus and self.address is None:
            raise ValueError("gpus needs an address, since a cluster on this machine would share its GPUs unseen: use search.devices here")
        return self

    @property
    def device(self) -> str | None:
        """A GPU where trials get a share of one."""
        return "cuda" if self.gpus else None

    def wrong_devices(self, devices: Sequence[str]) -> str | None:
        """Devices are those of one machine."""
        if not devices:
            return None
        engine = component_name(self)
        return f"devices is {list(devices)}, which are of this machine, but engine is {engine}: leave devices empty and set engine.gpus"
