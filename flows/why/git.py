"""What Git says of a project: the commit that holds its dvc.lock, and what the code was in it."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from flows.why import hashes


@final
@dataclass(frozen=True)
class Commit:
    """A commit: its name, who made it, when (ISO 8601), and the first line of its message."""

    name: str
    author: str
    date: str
    subject: str


def ask(root: Path, *words: str, given: bytes | None = None) -> bytes | None:
    """What a Git command prints; None where it fails, as where there is no repository or no Git."""
    try:
        done = subprocess.run(["git", *words], cwd=root, input=given, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def last_commit(root: Path, path: str) -> Commit | None:
    """The last commit, before the one that is checked out or that one itself, that changed a file; None where there is none."""
    found = ask(root, "log", "-1", "--format=%H%n%an <%ae>%n%aI%n%s", "--", path)
    lines = (found or b"").decode(errors="replace").splitlines()
    if len(lines) < 3:
        return None
    name, author, date, *subject = lines
    return Commit(name, author, date, subject[0] if subject else "")


def content(root: Path, commit: str, path: str) -> bytes | None:
    """What a file held in a commit; None where it was not there."""
    return ask(root, "show", f"{commit}:./{path}")


def hashes_at(root: Path, commit: str, paths: Sequence[str]) -> dict[str, str | None]:
    """DVC's hashes of files and folders as a commit holds them; None for one that it does not hold."""
    listed = ask(root, "ls-tree", "-r", "-z", commit, "--", *paths) or b""
    blobs = dict(_entry(line) for line in listed.decode().split("\0") if line and line.split()[1] == "blob")
    digests = _digests(root, blobs)
    return {path: _hash(path, digests) for path in paths}


def hashes_now(root: Path, paths: Sequence[str]) -> dict[str, str | None]:
    """DVC's hashes of files and folders in the working copy, without what Git ignores."""
    listed = (ask(root, "ls-files", "-co", "--exclude-standard", "-z", "--", *paths) or b"").decode().split("\0")
    digests = {name: hashes.of_file(root / name) for name in listed if name and (root / name).is_file()}
    return {path: _hash(path, digests) for path in paths}


def _entry(line: str) -> tuple[str, str]:
    """The path and the object of a line of `git ls-tree`: mode, kind, object, a tab, path."""
    described, path = line.split("\t", 1)
    return path, described.split()[2]


def _digests(root: Path, blobs: dict[str, str]) -> dict[str, str]:
    """The MD5 of every file, all read by one process."""
    read = ask(root, "cat-file", "--batch", given="".join(f"{blob}\n" for blob in blobs.values()).encode()) or b""
    found, at = {}, 0
    for path in blobs:
        end = read.index(b"\n", at)
        size = int(read[at:end].split()[2])
        found[path] = hashes.of_bytes(read[end + 1 : end + 1 + size])
        at = end + 1 + size + 1
    return found


def _hash(path: str, digests: dict[str, str]) -> str | None:
    if path in digests:
        return digests[path]
    inside = {name.removeprefix(f"{path}/"): digest for name, digest in digests.items() if name.startswith(f"{path}/")}
    return hashes.of_list(inside) if inside else None
