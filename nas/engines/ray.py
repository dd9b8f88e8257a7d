"""A Ray cluster (Moritz et al. 2018, "Ray: A distributed framework for emerging AI applications").

An actor on every node keeps the work; trials run in processes of it, under the same limits as on one machine.
"""

import importlib.util
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
class Ray(Cluster):
    """A Ray cluster, of other machines or of processes of this one."""

    address: str | None = Field(None, pattern=r"^[^:/\s]+:[0-9]+$|^\[[0-9a-fA-F:]+\]:[0-9]+$")
    """Where the head listens, such as `10.0.0.5:6379`; null starts a cluster on this machine, to try it."""

    def open(self, works: Sequence[Work], folder: Path | None) -> AbstractContextManager[Session]:
        """Send the work to every node, once. Raises MachineError where Ray is not installed, nobody answers, or nodes cannot do it."""
        if importlib.util.find_spec("ray") is None:
            raise MachineError("engine is ray, but ray is not installed: pip install 'nasflow[ray]'")
        from nas.engines.ray_cluster import opened

        return opened(self, works, folder)
