"""Which code makes a result: part of what names a run."""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel


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
