"""The file: which of the results it is, by its bytes, whatever it is called and wherever it lies."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flows.records import PULL, RESTORE
from flows.why import git, hashes
from flows.why.chain import Link
from flows.why.evidence import Evidence, untold

MODEL = "results/export/model.onnx"
_IDENTITY = ("search", "trial", "seed", "weights_sha256")


@final
class UnknownFileError(ValueError):
    """A file that the project's results do not know; the message says what it is, as far as that can be told."""


@final
@dataclass(frozen=True)
class File:
    """A file that the results know. `variant` is its name in the manifest, `known` whether its bytes are those that the manifest names."""

    path: Path
    shown: str
    bytes: int
    sha256: str
    md5: str
    variant: str
    ships: bool
    known: bool


def identify(evidence: Evidence, path: Path) -> File:
    """Find out which file of the results it is.

    Raises UnknownFileError when it is none: the sentence names the commit whose results it belongs to, where one does; OSError when
    it cannot be read.
    """
    if not path.is_file():
        cure = PULL if path == evidence.root / MODEL else "name an ONNX file"
        raise UnknownFileError(f"{path} does not exist: {cure}")
    content, manifest = path.read_bytes(), evidence.record("export/manifest.json")
    found = hashlib.sha256(content).hexdigest()
    shown = path.relative_to(evidence.root).as_posix() if path.is_relative_to(evidence.root) else str(path)
    sizes = len(content), found, hashes.of_bytes(content)
    by_digest = {one["sha256"]: name for name, one in manifest.get("variants", {}).items()}
    ships = manifest.get("ships", "float")
    if found == manifest.get("sha256"):
        return File(path, shown, *sizes, ships, True, True)
    if found in by_digest:
        return File(path, shown, *sizes, by_digest[found], False, True)
    told = _metadata(content)
    here = path == evidence.root / MODEL
    if not manifest or here or (told and _same(told, manifest.get("metadata", {}))):
        variant = _variant(told, ships)
        return File(path, shown, *sizes, variant, here or variant == ships, False)
    raise UnknownFileError(_unknown(evidence.root, shown, sizes[2], told))


def link(evidence: Evidence, file: File) -> Link:
    """The first link: the bytes are those that the manifest and dvc.lock name."""
    manifest, broken = evidence.record("export/manifest.json"), list[str]()
    if manifest and not file.known:
        named = manifest["sha256"]
        broken.append(
            f"{file.shown} has the SHA-256 {file.sha256[:16]}, but results/export/manifest.json names {named[:16]} for the model of its "
            f"search, trial and seed: it was altered after the export; {RESTORE}"
        )
    unchecked = [] if manifest else untold("export/manifest.json")
    export = evidence.locked.get("export")
    locked = export.writes.get(MODEL) if export is not None else None
    if file.ships and locked is not None and locked != file.md5:
        broken.append(f"dvc.lock names {MODEL} by the MD5 {locked[:12]}, but the file has {file.md5[:12]}: {RESTORE}")
    what = "the model that ships" if file.ships else "a variant that does not ship"
    facts: list[tuple[str, str | int]] = [("bytes", file.bytes), ("sha256", file.sha256), ("is", f"{what}, {file.variant}")]
    return Link("file", f"{file.shown}, {what}", facts, broken, unchecked)


def _metadata(content: bytes) -> Mapping[str, str]:
    """What an ONNX file says of itself; empty where it is none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    except (DecodeError, ValueError):
        return {}


def _same(told: Mapping[str, str], known: Mapping[str, Any]) -> bool:
    """Whether a file says that it is of the same training."""
    return all(told.get(name) == known.get(name) for name in _IDENTITY)


def _variant(told: Mapping[str, str], ships: str) -> str:
    if not told:
        return ships
    return "int8" if "quantized" in told else "float"


def _unknown(root: Path, shown: str, md5: str, told: Mapping[str, str]) -> str:
    commit = _commit_of(root, md5)
    if commit is not None:
        return (
            f"{shown} was exported by the results of commit {commit}, not by those that are here: "
            f"`git checkout {commit} && dvc checkout` brings them back, then ask again"
        )
    if "search" in told and "trial" in told:
        return (
            f"{shown} says that it is trial {told['trial']} of search {told['search']}, but neither the results here nor any dvc.lock that "
            "Git knows hold it: it was exported in another project or altered since; ask in the project that exported it"
        )
    kind = "is an ONNX file that nasflow did not export" if told else "is no file that nasflow exported"
    return f"{shown} {kind}: name one that this project did, such as {MODEL}"


def _commit_of(root: Path, md5: str) -> str | None:
    """The last commit whose dvc.lock names these bytes."""
    changed = git.ask(root, "log", "--all", "--format=%h", f"-S{md5}", "--", "dvc.lock") or b""
    commits = changed.decode().split()
    return next((commit for commit in commits if md5.encode() in (git.ask(root, "show", f"{commit}:./dvc.lock") or b"")), None)
