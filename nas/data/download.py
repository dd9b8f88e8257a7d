"""Fetching a file whose content is known beforehand: resumed after an interruption, checked, and visible only when whole."""

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from nas.atomic import sync_folder
from nas.data.errors import DataError, UnreachableError

CHUNK_BYTES = 2**20
ATTEMPTS = 3
TIMEOUT_SECONDS = 30.0


def download(url: str, target: Path, sha256: str) -> None:
    """Make `target` hold the content of `url` with that SHA-256 (64 hexadecimal digits); nothing is fetched if it does already.

    Bytes gather in a file `.part` beside it, which a later call continues. Two processes may ask for the same file.

    Raises:
        DataError: the file there or the file fetched has another checksum.
        UnreachableError: the server cannot be reached.
    """
    if _already_there(target, sha256):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever held the lock before us may have finished: then `file` is the target itself and must not be touched.
        if _already_there(target, sha256):
            if part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno())):
                part.unlink()
            return
        _fetch_all(url, file)
        found = _checksum(part)
        if found != sha256:
            part.unlink()
            raise DataError(f"{url} has the SHA-256 {found} but {sha256} was expected; correct the checksum or the address")
        file.flush()
        os.fsync(file.fileno())
        os.replace(part, target)
    sync_folder(target.parent)


def _already_there(target: Path, sha256: str) -> bool:
    if not target.exists():
        return False
    found = _checksum(target)
    if found != sha256:
        raise DataError(f"{target} has the SHA-256 {found} but {sha256} was expected; remove the file to fetch it again")
    return True


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_all(url: str, file: BinaryIO) -> None:
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            if _fetch(url, file):
                return
            problem = f"the transfer stopped after {file.tell()} bytes"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DataError(f"{url} answers {error.code} {error.reason}; correct the address") from error
            problem = f"the server answers {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
    raise UnreachableError(f"{url} could not be fetched in {ATTEMPTS} attempts ({problem}); run again to continue where it stopped")


def _fetch(url: str, file: BinaryIO) -> bool:
    """Append what is missing; return whether the server has sent all that it announced."""
    have = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # everything is here already, or too much; the checksum tells which
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            file.truncate(0)
        announced = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
        file.flush()
    return announced is None or received == int(announced)
