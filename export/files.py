"""Files that are either whole or absent, and their digests."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, data: bytes, accept: Callable[[Path], None] = lambda written: None) -> None:
    """Put `data` at `path` at once: a reader, or a power cut, finds the old file or the new one.

    `accept` sees the written bytes under a temporary name in the same folder; what it raises leaves `path` as it was.
    Raises OSError when the folder does not exist or cannot be written.
    """
    with _aside(path) as temporary:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        accept(temporary)
        temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    # mkstemp makes private files; whoever deploys the file may be another user.
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """The SHA-256 of the file at `path`, 64 hexadecimal digits. Raises OSError when it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(data: bytes) -> str:
    """The SHA-256 of `data`, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
