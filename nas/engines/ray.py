"""A Ray cluster (Moritz et al. 2018, "Ray: A distributed framework for emerging AI applications").

An actor on every node keeps the work; trials run in processes of it, under the same limits as on one machine.
"""

import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self, final

from pydantic import Field, model_validator

from nas.engines.base import Engine, Session
from nas.evaluators.base import MachineError
from nas.processes import Work


@final
class Ray(Engine):
    """A Ray cluster, of other machines or of processes of this one."""

    address: str | None = Field(None, pattern=r"^[^:/\s]+:[0-9]+$|^\[[0-9a-fA-F:]+\]:[0-9]+$")
    """Where the head listens, such as `10.0.0.5:6379`; null starts a cluster on this machine, to try it."""
    nodes: int = Field(2, ge=1)
    """Nodes of a cluster on this machine, each a process; one that has an address brings its own."""
    gpus: float = Field(0.0, ge=0, le=1)
    """Share of a GPU for each trial, such as 0.5, of the GPUs that nodes offer by `--num-gpus=…`; 0 leaves GPUs alone."""
    wait_seconds: float = Field(60.0, gt=0)
    """How long to wait for the head and a first node with room for a trial."""

    @model_validator(mode="after")
    def _has_gpus(self) -> Self:
        if self.gpus and self.address is None:
            raise ValueError("gpus needs an address, since a cluster on this machine would share its GPUs unseen: use search.devices here")
        return self

    def open(self, works: Sequence[Work], folder: Path | None) -> AbstractContextManager[Session]:
        """Send the work to every node, once. Raises MachineError where Ray is not installed, nobody answers, or nodes cannot do it."""
        if importlib.util.find_spec("ray") is None:
            raise MachineError("engine is ray, but ray is not installed: pip install 'nasflow[ray]'")
        from nas.engines.ray_cluster import opened

        return opened(self, works, folder)

    @property
    def device(self) -> str | None:
        """A GPU where trials get a share of one."""
        return "cuda" if self.gpus else None

    def wrong_devices(self, devices: Sequence[str]) -> str | None:
        """Devices are those of one machine."""
        if not devices:
            return None
        return f"devices is {list(devices)}, which are of this machine, but engine is ray: leave devices empty and set engine.gpus"
