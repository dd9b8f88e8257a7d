"""One run, one folder: `.nasflow/<stage>-<fingerprint>/`, named by everything that determines the result.

The same inputs continue where a killed run stopped, or are done already; other inputs are another folder. What is finished is
published to `results/<stage>/` in two renames, the first undone at the next start, so results are there whole or not at all.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.lineage import changes
from flows.tracking import WORK
from nas import atomic

FORMAT_VERSION = 1
"""Raise when the same inputs would give another result."""


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


@contextmanager
def hold(root: Path, stage: str, inputs: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Make or reopen the folder of a run and hold it until the end; the system lets go of it when the process dies.

    Raises RunError when another process holds the same run.
    """
    with contextlib.suppress(_HeldError), _exclusive(_desk(root, stage)):  # who publishes right now has nothing to be undone
        _undo(root, stage)
    name = fingerprint(inputs)
    path = root / WORK / f"{stage}-{name}"
    try:
        with _exclusive(path):
            atomic.write_json(path / "inputs.json", dict(inputs))
            yield RunFolder(stage, name, path)
    except _HeldError as error:
        raise RunError(f"{stage} with these settings is being run by {error}: wait for it, or end it") from error


@contextmanager
def publish(root: Path, stage: str, lineage: Mapping[str, Any]) -> Iterator[Path]:
    """Give an empty folder to fill; at the end it becomes `results/<stage>/`, with lineage.json, in place of what was there.

    Takes two renames; what a kill between them leaves is undone when the stage starts again. When filling it raises, the published
    results stay as they were. Raises RunError when another process publishes the stage, and when something that the stage read at
    its start has changed since: DVC would note the new content as what the results were made from.
    """
    try:
        with _exclusive(_desk(root, stage)):
            _undo(root, stage)
            fresh = _desk(root, stage) / "fresh"
            fresh.mkdir()
            try:
                yield fresh
                changed = changes(root, lineage)
                if changed:
                    raise RunError("\n".join([*changed, "nothing was published: run the stage again"]))
                atomic.write_json(fresh / "lineage.json", dict(lineage))
                _swap(root, stage)
            finally:
                _undo(root, stage)
    except _HeldError as error:
        raise RunError(f"the results of {stage} are being written by {error}: wait for it, or end it") from error


def _swap(root: Path, stage: str) -> None:
    """Put what was filled in the place of the results, all of it durable first."""
    desk, results = _desk(root, stage), root / "results" / stage
    results.parent.mkdir(exist_ok=True)
    kept = results / ".gitignore"
    if kept.exists():
        shutil.copy2(kept, desk / "fresh" / ".gitignore")
    _make_durable(desk / "fresh")
    if results.exists():
        results.rename(desk / "old")
    (desk / "fresh").rename(results)
    for folder in (results.parent, desk):
        atomic.sync_folder(folder)


def _undo(root: Path, stage: str) -> None:
    """Clear away what an earlier publishing left; one that was stopped between its two renames gives the old results back."""
    desk, results = _desk(root, stage), root / "results" / stage
    if (desk / "old").exists() and not results.exists():
        results.parent.mkdir(exist_ok=True)
        (desk / "old").rename(results)
        atomic.sync_folder(results.parent)
    for name in ("fresh", "old"):
        shutil.rmtree(desk / name, ignore_errors=True)


def _desk(root: Path, stage: str) -> Path:
    return root / WORK / f"publish-{stage}"


def _make_durable(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(place, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        atomic.sync_folder(Path(place))


class _HeldError(Exception):
    """Another process holds a folder; the message names it."""


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Make a folder and hold it until the end; the system lets go of it when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 32, 0).decode().strip()
            raise _HeldError(f"process {owner}" if owner else "another process") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
