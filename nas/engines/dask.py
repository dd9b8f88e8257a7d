"""A Dask cluster (Rocklin 2015, "Dask: Parallel computation with blocked algorithms and task scheduling").

Nodes are Dask workers, which keep the connection; trials run in processes of theirs, under the same limits as on one machine.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

from pydantic import Field

from nas.engines.base import Session
from nas.engines.cluster import Cluster
from nas.evaluators.base import MachineError
from nas.processes import Work


@final
class Dask(Cluster):
    """A Dask cluster, of other machines or of processes of this one."""

    address: str | None = Field(None, pattern=r"^[a-z]+://.+$")
    """Where the scheduler listens, such as `tcp://10.0.0.5:8786` or `tls://…`; null starts a cluster on this machine, to try it."""

    def open(self, works: Sequence[Work], folder: Path | None) -> AbstractContextManager[Session]:
        """Send the work to every node, once. Raises MachineError where Dask is not installed, nobody answers, or nodes cannot do it."""
        try:
            from nas.engines.dask_cluster import opened
        except ImportError as error:
            raise MachineError(f"engine is dask, but {error.name} is not installed: pip install 'nasflow[dask]'") from error
        return opened(self, works, folder)
