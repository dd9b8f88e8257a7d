"""Where a result comes from: the code that makes it, which is part of what names a run, and what a shipped file says of itself."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nas.components import describe
from nas.data.dataset import Description
from nas.spaces.base import SearchSpace
from nas.tasks.base import Task

NEAREST = 8
"""So many trials that an architecture descends from are named in the file itself, the winner's own one first."""


def code_of(record: Mapping[str, Any], *components: BaseModel) -> dict[str, str]:
    """Return the hashes of the library's code that a stage reads, and of the files that components from elsewhere are defined in.

    `record` is what `flows.lineage.read` returned. Other code may give another result, and is another run.
    """
    code = {path: digest for path, digest in record.get("deps", {}).items() if path.split("/")[0] == "nas"}
    for component in components:
        kind = type(component)
        if not kind.__module__.startswith("nas."):
            source = Path(inspect.getfile(kind)).read_bytes()
            code[f"{kind.__module__}:{kind.__qualname__}"] = hashlib.sha256(source).hexdigest()
    return code


def descent(strategy: str, ancestors: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """What a file says of where its architecture comes from: the strategy's name, and the nearest trials that it was made from.

    `ancestors`: as best.json holds them. Only the nearest are told, so that a file does not grow with the search that found it.
    """
    nearest = dict(list(ancestors.items())[:NEAREST])
    return {"strategy": strategy, "ancestors": json.dumps(nearest, separators=(",", ":"))}


def described(space: SearchSpace, task: Task, data: Description) -> dict[str, str]:
    """What every file of a search says of itself, as ONNX metadata."""
    return {
        "classes": json.dumps(data.classes),
        "space": json.dumps(describe(space), sort_keys=True),
        "task": json.dumps(describe(task), sort_keys=True),
        "data_digest": data.digest,
        "byte_range": json.dumps(data.byte_range),
        "libraries": json.dumps({name: version(name) for name in ("onnx", "torch")}),
        "nasflow": version("nasflow"),
    }
