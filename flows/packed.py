"""What is known of the candidates that were packed for other devices: which trial a file is of, by its SHA-256."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from flows import records
from flows.candidates import FILE
from flows.tracking import WORK
from nas import atomic

FORMAT = 1
FOLDER = "packed"
"""Below `.nasflow`: a file per search, and in it every file that was ever packed of it."""


@final
@dataclass(frozen=True, slots=True)
class Packed:
    """A file of the archive: its trial, the canonical form of its architecture, the hash of its graph, its SHA-256 and size."""

    trial: int
    canonical: str
    graph: str
    sha256: str
    bytes: int


def search_of(root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the winner of the last search, as best.json holds it, and its candidates. Raises RecordError when there is none."""
    folder = root / "results" / "search"
    return records.read(folder / "best.json", "search"), records.read_list(folder / FILE, "trial", "canonical", "metrics")


def remember(root: Path, search: str, packed: Sequence[Packed]) -> None:
    """Keep what was packed of a search, beside what was packed of it before. Raises DiskError."""
    path = _place(root, search)
    atomic.make_folder(path.parent)
    everything = known(root, search) | {one.sha256: one for one in packed}
    atomic.write_json(path, {"format": FORMAT, "files": [asdict(one) for one in everything.values()]})


def known(root: Path, search: str) -> dict[str, Packed]:
    """Return what was packed of a search, by SHA-256; nothing where nothing usable was kept, since packing again tells the same."""
    try:
        content = json.loads(_place(root, search).read_text())
        return {entry["sha256"]: Packed(**entry) for entry in content["files"]} if content["format"] == FORMAT else {}
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return {}


def _place(root: Path, search: str) -> Path:
    return root / WORK / FOLDER / f"{search}.json"
