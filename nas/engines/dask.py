"""A Dask cluster (Rocklin 2015, "Dask: Parallel computation with blocked algorithms and task scheduling").

Nodes are Dask workers, which keep the connection; trials run in processes of theirs, under the same limits as on one machine.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self, final

from pydantic import Field, model_validator

from nas.engines.base import Engine, Session
from nas.evaluators.base import MachineError
from nas.processes import Work


@final
class Dask(Engine):
    """A Dask cluster, of other machines or of processes of this one."""

    address: str | None = Field(None, pattern=r"^[a-z]+://.+$")
    """Where the scheduler listens, such as `tcp://10.0.0.5:8786` or `tls://…`; null starts a cluster on this machine, to try it."""
    nodes: int = Field(2, ge=1)
    """Nodes of a cluster on this machine; one that has an address brings its own."""
    gpus: float = Field(0.0, ge=0, le=1)
    """Share of a GPU for each trial, such as 0.5, of the GPUs that workers offer by `--resources GPU=…`; 0 leaves GPUs alone."""
    wait_seconds: float = Field(60.0, gt=0)
    """How long to wait for the scheduler and a first node."""

    @model_validator(mode="after")
    def _has_gpus(self) -> Self:
        if self.gpus and self.address is None:
            raise ValueError("gpus needs an address, since a cluster on this machine would share its GPUs unseen: use search.devices here")
        return self

    def open(self, works: Sequence[Work], folder: Path | None) -> AbstractContextManager[Session]:
        """Send the work to every node, once. Raises MachineError where Dask is not installed, nobody answers, or nodes cannot do it."""
        try:
            from nas.engines.dask_cluster import opened
        except ImportError as error:
            raise MachineError(f"engine is dask, but {error.name} is not installed: pip install 'nasflow[dask]'") from error
        return opened(self, works, folder)

    @property
    def device(self) -> str | None:
        """A GPU where trials get a share of one."""
        return "cuda" if self.gpus else None

    def wrong_devices(self, devices: Sequence[str]) -> str | None:
        """Devices are those of one machine."""
        if not devices:
            return None
        return f"devices is {list(devices)}, which are of this machine, but engine is dask: leave devices empty and set engine.gpus"
