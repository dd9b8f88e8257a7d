"""DVC's hashes, computed from the bytes: of a file its MD5, of a folder the MD5 of the list of its files, with `.dir` behind it.

DVC remembers the hashes of files by their times and sizes; who asks why a model is what it is wants the bytes to be read.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

FOLDER = ".dir"


def of_bytes(content: bytes) -> str:
    """The MD5 of a file's content, as 32 hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def of_file(path: Path) -> str:
    """The MD5 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def of_list(files: Mapping[str, str]) -> str:
    """The hash of a folder from the MD5 of each file by its path inside."""
    entries = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
    return of_bytes(json.dumps(entries, sort_keys=True).encode()) + FOLDER


def of_folder(folder: Path) -> dict[str, str]:
    """The MD5 of every file of a folder by its path inside. Raises OSError."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): of_file(path) for path in files}


def of_path(path: Path) -> str | None:
    """The hash of a file or a folder; None where there is neither. Raises OSError."""
    if path.is_dir():
        return of_list(of_folder(path))
    return of_file(path) if path.is_file() else None


def altered(root: Path, path: str, recorded: str) -> list[str]:
    """Which files of a folder are not what its recorded hash stands for; the folder itself where DVC's cache does not hold the list."""
    listing = root / ".dvc" / "cache" / "files" / "md5" / recorded[:2] / recorded[2:]
    try:
        known = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}
    except (OSError, ValueError, KeyError, TypeError):
        return [path]
    found = of_folder(root / path)
    return [f"{path}/{name}" for name in sorted(known.keys() | found.keys()) if known.get(name) != found.get(name)]
