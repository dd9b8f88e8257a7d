"""One run, one folder: `.nasflow/<stage>-<fingerprint>/`, named by everything that determines the result.

The same inputs continue where a killed run stopped, or are done already; other inputs are another folder. What is finished is
published to `results/<stage>/` at once, so results are there whole or not at all.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.lineage import changes
from nas import atomic

FORMAT_VERSION = 1
"""Raise when the same inputs would give another result."""
WORK = ".nasflow"


class RunError(RuntimeError):
    """A run that cannot begin; the message says who or what is in the way."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, held by this process."""

    stage: str
    fingerprint: str
    path: Path


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that name these inputs and the format version; inputs are JSON values."""
    text = json.dumps({"format": FORMAT_VERSION, **inputs}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of the code among what a stage reads: other code may give another result, and is another run."""
    return {path: digest for path, digest in record.get("deps", {}).items() if path.split("/")[0] == "nas"}


@contextmanager
def hold(root: Path, stage: str, inputs: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Make or reopen the folder of a run and hold it until the end; the system lets go of it when the process dies.

    Raises RunError when another process holds the same run.
    """
    name = fingerprint(inputs)
    path = root / WORK / f"{stage}-{name}"
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 32, 0).decode().strip() or "another process"
            raise RunError(f"{stage} with these settings is being run by process {owner}: wait for it, or end it") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        atomic.write_json(path / "inputs.json", dict(inputs))
        yield RunFolder(stage, name, path)
    finally:
        os.close(handle)


@contextmanager
def publish(root: Path, stage: str, lineage: Mapping[str, Any]) -> Iterator[Path]:
    """Give an empty folder to fill; at the end it becomes `results/<stage>/`, with lineage.json, in place of what was there.

    When filling it raises, the published results stay as they were. Raises RunError when something that the stage read at its
    start has changed since: DVC would note the new content as what the results were made from.
    """
    work = root / WORK
    work.mkdir(exist_ok=True)
    results = root / "results" / stage
    results.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"publish-{stage}-", dir=work, ignore_cleanup_errors=True) as name:
        fresh = Path(name) / "fresh"
        fresh.mkdir()
        yield fresh
        changed = changes(root, lineage)
        if changed:
            raise RunError("\n".join([*changed, "nothing was published: run the stage again"]))
        atomic.write_json(fresh / "lineage.json", dict(lineage))
        kept = results / ".gitignore"
        if kept.exists():
            shutil.copy2(kept, fresh / ".gitignore")
        if results.exists():
            results.rename(Path(name) / "old")
        fresh.rename(results)
        atomic.sync_folder(results.parent)
