"""A folder held by one process at a time: its lock says who holds it, and the system lets go of it when that process dies."""

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from flows import processes

_PATIENCE_SECONDS = 0.3  # whoever only looks whether a folder is held, holds it for an instant
_POLL_SECONDS = 0.02


class HeldError(Exception):
    """Another process holds a folder; the message says which, and since when."""


def this_process() -> dict[str, Any]:
    """Return what names this process: pid, host, since (local time) and command."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now(), "command": command}


def called() -> str:
    """What a person calls this process: the command that was typed, in backticks, or the run that Prefect has started."""
    if processes.SERVER in os.environ:
        return "a run of `nasflow serve`"
    command = this_process()["command"]
    return "a run of a Prefect deployment" if command.startswith("engine.py") else f"`{command}`"


def now() -> str:
    """The local time, to the second, for people."""
    return datetime.now().isoformat(" ", "seconds")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder and hold it until the end. Raises HeldError when another process does."""
    handle = _take(folder)
    try:
        owner = json.dumps(this_process()).encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, owner, 0)
        yield
    finally:
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Whether some process holds a folder right now."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _take(folder: Path) -> int:
    """Return the open lock of a folder, taken."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the folder was removed in between: it is made again
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(handle), os.stat(folder / "lock")):  # else a folder that was moved away is locked
                    return handle
                os.close(handle)
            except BlockingIOError as error:
                owner = _owner(handle)
                os.close(handle)
                if time.monotonic() >= deadline:
                    raise HeldError(owner) from error
            except BaseException:
                os.close(handle)
                raise
        time.sleep(_POLL_SECONDS)


def _owner(handle: int) -> str:
    """Who holds a lock, and how to end it."""
    try:
        owner = json.loads(os.pread(handle, 65536, 0))
    except ValueError:
        owner = None
    if not isinstance(owner, dict) or not {"pid", "host", "command", "since"} <= owner.keys():  # the holder has not written it yet
        return "another process: wait for it"
    here = owner["host"] == socket.gethostname()
    place = "" if here else f" on {owner['host']}"
    end = f"`kill {owner['pid']}`" if here else f"`kill {owner['pid']}` there"
    return f"process {owner['pid']}{place} (`{owner['command']}`, since {owner['since']}): wait for it, or end it with {end}"
