"""A folder that appears complete or not at all, also after a crash."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas import atomic
from nas.data.errors import DataError


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a folder to fill beside `folder`, and rename it to `folder` when the block ends without an error.

    An error removes everything that was made. What a killed run left behind has a fixed name, so the next run clears it.

    Raises:
        DataError: `folder` already holds something, or another process is filling it.
    """
    refuse_existing(folder)
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial"
    try:
        handle = _claim(partial, folder)
        try:
            _clear(partial)
            yield partial
            _publish(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            os.close(handle)
    except BaseException:
        with suppress(OSError):  # a parent that someone else uses by now stays
            for parent in made:
                parent.rmdir()
        raise


def refuse_existing(folder: Path) -> None:
    """Raise DataError where `folder` is a file, or a folder with anything in it."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise DataError(f"{folder} already exists and nothing is overwritten; remove it or prepare into another folder")


def _claim(partial: Path, folder: Path) -> int:
    partial.mkdir(exist_ok=True)
    handle = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = partial.exists() and os.path.samestat(os.fstat(handle), partial.stat())
    except BlockingIOError:
        mine = False
    if not mine:  # locked, or renamed into place between our opening and locking it
        os.close(handle)
        raise DataError(f"{folder} is being prepared by another process; wait for it to end")
    return handle


def _clear(partial: Path) -> None:
    for entry in partial.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _publish(partial: Path, folder: Path) -> None:
    atomic.sync_folder(partial)
    os.replace(partial, folder)
    atomic.sync_folder(folder.parent)
