"""Data under DVC: a file or a folder is copied into the project, or fetched from a URL, and from then on tracked by its hash.

A copy is written aside and renamed, so the data are there whole or not at all. What comes from a URL keeps its address and version in
the .dvc file: `dvc update` fetches it again when it has changed there.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote, urlsplit

from export.files import digest
from flows import console, tracking
from flows.printing import last_error_of_dvc
from nas import atomic

FOLDER = "data"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+")
_CHUNK = 2**20
_TAKEN = ("results", "nas", "flows", "export", "tests", ".git", ".dvc", tracking.WORK)
_INTO_IDX = re.compile(r".*-(images|labels)[.-]idx[13]-ubyte(\.gz)?")


@final
class ImportingError(ValueError):
    """Data that were not imported; the message says why, and what to do. Nothing of them is in the project then."""


@final
@dataclass(frozen=True)
class Imported:
    """Data in the project: their path, relative to it, how many files and bytes they are, and the SHA-256 of a single file."""

    path: str
    files: int
    bytes: int
    sha256: str | None

    @property
    def note(self) -> str:
        """The file that Git keeps in their stead."""
        return f"{self.path}.dvc"


def bring(root: Path, source: str, to: str | None, sha256: str | None) -> Imported:
    """Copy or fetch `source`, a path or a URL, to the path `to` of the project, `data/NAME` when None, and track it with DVC.

    `sha256`: what a single file must have. Raises ImportingError when there is no such source, something is at that path already, the
    checksum is another, or DVC refuses; BusyError while a run or DVC works on the project; OSError when the disk refuses.
    """
    root = root.resolve()
    if not (root / ".dvc").is_dir():
        raise ImportingError(f"{root} is no DVC project: call it in the folder of a project, or make one with `dvc init`")
    name = unquote(Path(urlsplit(source).path).name) if _URL.fullmatch(source) else Path(source).resolve().name
    target = _target(root, to or f"{FOLDER}/{name}", source)
    with tracking.lock(root):
        atomic.make_folder(target.parent)
        try:
            if _URL.fullmatch(source):
                _fetch(root, source, target, sha256)
            else:
                _copy(root, Path(source).resolve(), target, sha256)
                _dvc(root, "add", str(target.relative_to(root)))
        except BaseException:
            _remove(target)
            raise
    files = [path for path in target.rglob("*") if path.is_file()] if target.is_dir() else [target]
    size = sum(path.stat().st_size for path in files)
    return Imported(target.relative_to(root).as_posix(), len(files), size, None if target.is_dir() else digest(target))


def source_for(root: Path, path: str) -> dict[str, Any]:
    """What `prepare.source` would be for these data, as far as their names tell. Raises ImportingError where they tell nothing."""
    place = root / path
    if place.is_dir():
        return {"name": "idx" if any(map(_INTO_IDX.fullmatch, os.listdir(place))) else "images", "path": path}
    for ending, name in ((".npz", "npz"), (".csv", "csv"), (".csv.gz", "csv")):
        if path.endswith(ending):
            return {"name": name, "path": path}
    raise ImportingError(
        f"{path} is no .npz, no .csv and no folder, so no source reads it as it is: unpack it, import the folder, and set prepare.source"
    )


def _target(root: Path, to: str, source: str) -> Path:
    """Where the data go."""
    target = (root / to).resolve()
    if not target.is_relative_to(root) or target == root or target.relative_to(root).parts[0] in _TAKEN:
        raise ImportingError(f"--to is {to}: name a path in the project, outside its code and results, such as {FOLDER}/NAME")
    shown = target.relative_to(root).as_posix()
    if target.exists() or target.with_name(f"{target.name}.dvc").exists():
        raise ImportingError(
            f"{shown} or its .dvc file is there already: name another place with --to, or remove both (`dvc remove {shown}.dvc`)"
        )
    if not _URL.fullmatch(source):
        place = Path(source).resolve()
        if not place.exists():
            raise ImportingError(f"{source} does not exist: name a file, a folder or a URL")
        if target.is_relative_to(place):
            raise ImportingError(f"{source} holds {shown}, the place to copy it to: name another place with --to, or a folder inside it")
    return target


def _fetch(root: Path, url: str, target: Path, sha256: str | None) -> None:
    _dvc(root, "import-url", url, str(target.relative_to(root)), shown=sys.stderr.isatty())
    if sha256 is not None:
        if target.is_dir():
            raise ImportingError(f"{url} is a folder, which has no SHA-256 of its own: leave --sha256 out")
        _compare(url, digest(target), sha256)


def _copy(root: Path, source: Path, target: Path, sha256: str | None) -> None:
    """Copy beside the target, then rename."""
    if sha256 is not None and source.is_dir():
        raise ImportingError(f"{source} is a folder, which has no SHA-256 of its own: leave --sha256 out")
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    if not files:
        raise ImportingError(f"{source} holds no file: name a folder with data")
    total = sum(path.stat().st_size for path in files)
    with _aside(target) as place, console.progress(root, "import", max(1, total // _CHUNK)) as report:
        done = 0
        for count, path in enumerate(files, 1):
            copy = place / path.relative_to(source) if source.is_dir() else place
            copy.parent.mkdir(parents=True, exist_ok=True)
            summed = hashlib.sha256()
            with path.open("rb") as reading, copy.open("xb") as writing:
                while chunk := reading.read(_CHUNK):
                    summed.update(chunk)
                    writing.write(chunk)
                    done += len(chunk)
                    report(done // _CHUNK, f"{count} of {len(files)} files")
                writing.flush()
                os.fsync(writing.fileno())
            if sha256 is not None:
                _compare(str(source), summed.hexdigest(), sha256)
        os.replace(place, target)
    atomic.sync_folder(target.parent)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A path in a folder beside the target that goes when the block is left."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        yield Path(folder) / target.name


def _compare(what: str, found: str, wanted: str) -> None:
    if found != wanted.lower():
        raise ImportingError(f"{what} has the SHA-256 {found}, but {wanted} was expected: correct the checksum or the address")


def _remove(target: Path) -> None:
    """Leave nothing of data that were not imported."""
    target.with_name(f"{target.name}.dvc").unlink(missing_ok=True)
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def _dvc(root: Path, *words: str, shown: bool = False) -> None:
    """Run DVC; `shown`: let it draw its progress. Raises ImportingError with DVC's own words."""
    command = [sys.executable, "-P", "-m", "dvc", *words]
    errors = None if shown else subprocess.PIPE
    done = subprocess.run(command, cwd=root, env=tracking.environment(), stdout=subprocess.DEVNULL, stderr=errors, text=True, check=False)
    if done.returncode:
        # Before the cause DVC puts what it tried, and advice for somebody who uses it alone.
        why = "it says above why" if shown else last_error_of_dvc(done.stderr).rpartition(" - ")[2]
        cure = ": see whether the address is right, and answers" if words[0] == "import-url" else ""
        raise ImportingError(f"DVC did not take the data: {why}; nothing was imported{cure}")
