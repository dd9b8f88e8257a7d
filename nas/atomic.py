"""Writing a file so that a reader, or a run after a crash, sees the old content or the new one and never a part."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, final

_CAUSES = {
    errno.ENOSPC: ("no space is left on the disk", "make room"),
    errno.EDQUOT: ("the quota of the disk is used up", "make room or have it raised"),
    errno.EROFS: ("the disk is read-only", "make it writable or work in another folder"),
    errno.EACCES: ("the rights of the file or its folder do not allow it", "change them or work in another folder"),
    errno.EPERM: ("the system does not allow it", "change its rights or work in another folder"),
    errno.ENOENT: ("it or its folder was removed", "put it back"),
    errno.EIO: ("the disk reports an input/output error", "check the disk"),
    errno.EMFILE: ("too many files are open", "raise the limit (`ulimit -n`)"),
}


@final
class DiskError(OSError):
    """A disk that does not take or give a file; the message says which file, why, what was kept, and the cure."""

    def __init__(self, sentence: str, number: int | None = None) -> None:
        super().__init__(sentence)
        self.errno = number

    def __reduce__(self) -> tuple[type["DiskError"], tuple[str, int | None]]:
        # What OSError sends to another process leaves the number out.
        return DiskError, (str(self), self.errno)


_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def disk_trouble(error: OSError) -> str | None:
    """Say in a sentence what a disk refuses that is full, read-only or broken; None for errors that have another cause."""
    if isinstance(error, DiskError) or error.errno not in _OF_THE_DISK:
        return None
    why, cure = _CAUSES[error.errno]
    place = f"{error.filename} cannot be used" if error.filename else "a file cannot be written"
    return f"{place}, because {why}; results that were there are kept: {cure}, then run the same command again"


def is_of_the_disk(error: OSError) -> bool:
    """Whether a disk that is full, read-only or broken is the cause."""
    return error.errno in _OF_THE_DISK


@contextmanager
def explained(path: Path, action: str, kept: str) -> Iterator[None]:
    """Turn any OSError into a DiskError whose sentence says what could not be done to `path` and what was `kept`."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        why, cure = _CAUSES.get(error.errno or 0, ((error.strerror or str(error)).lower(), "mend this"))
        raise DiskError(
            f"{path} cannot be {action}, because {why}; {kept}: {cure}, then run the same command again", error.errno
        ) from error


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let `fill` write a file beside `path`, make it durable, then rename it to `path`.

    Raises DiskError when the disk does not take it, and whatever else `fill` raises; `path` then has its old content, or the whole
    new one when only the last step failed.
    """
    with explained(path, "written", "it has its old content or the whole new one"):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # mkstemp's 0600 would hide a published result from the rest of a team
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):  # why it failed is worth more than why clearing up failed
                os.unlink(name)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` with `text` in UTF-8, durably and at once."""
    write(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Replace the content of `path` with `value` as indented JSON, durably and at once."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably. Raises DiskError."""
    with explained(folder, "made", "nothing was written"):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for place in missing:
            sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make every file below `folder` durable."""
    for place, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(place, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(place))


@final
class Growing:
    """A file that only grows: what `append` returned from is durable, and nothing ever follows a part of what it was given."""

    def __init__(self, path: Path, length: int) -> None:
        """Open a file, or make it, and cut what follows its first `length` bytes. Raises DiskError."""
        self._path, self._length = path, length
        with explained(path, "opened for writing", "what it holds is kept"):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                # Also what an earlier process wrote but did not make durable before it was killed, since it is built upon from here.
                os.ftruncate(self._handle, length)
                os.fdatasync(self._handle)
                sync_folder(path.parent)
            except BaseException:
                os.close(self._handle)
                raise

    def check(self) -> None:
        """Raise DiskError when the path no longer leads to this file, or somebody else changed its length."""
        with explained(self._path, "found again", "what was written to it is lost unless you have a copy"):
            mine, there = os.fstat(self._handle), os.stat(self._path)
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise DiskError(
                f"{self._path} was replaced by another file while a process wrote to it, and the new one was left as it is: "
                "put back the right one, then run the same command again",
                errno.ESTALE,
            )
        if mine.st_size != self._length:
            raise DiskError(
                f"{self._path} has {mine.st_size} bytes where {self._length} were written, so something else changes it, and no more "
                "was written: end that, then run the same command again",
                errno.EBUSY,
            )

    def append(self, data: bytes) -> None:
        """Add bytes durably, all or none. Raises DiskError; then, at worst, a part of them is left at the end of the file."""
        self.check()
        with explained(self._path, "written", "what was committed before is kept"):
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._handle, rest) :]
                os.fdatasync(self._handle)
            except BaseException:
                # A part would do no harm, but what failed to become durable must not be taken for durable by the next process.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle, self._length)
                raise
        self._length += len(data)
        self.check()  # a path that led elsewhere by then would make the promise empty

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)
