"""Whether DVC works on a project right now, by the two files in which it says so."""

import contextlib
import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

from flows import processes


@contextlib.contextmanager
def held_off(folder: Path, busy: type[Exception]) -> Iterator[None]:
    """Keep DVC from beginning while the block runs; raises `busy` with a sentence where it has begun.

    folder: .dvc/tmp of the project. DVC holds `lock` between stages, and notes in `rwlock` what a running stage reads and writes.
    """
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:  # no DVC has ever worked here
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy("DVC works on this project. Wait until it is done.") from None
        for pid, command in _stages(folder / "rwlock"):
            if processes.is_alive(pid):
                raise busy(f"`{command}` (process {pid}) works on this project. Wait until it is done, or end it with `kill {pid}`.")
        yield
    finally:
        os.close(handle)


def _stages(path: Path) -> Iterator[tuple[int, str]]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return  # nothing is noted, or it is being noted right now
    for user in [*content.get("write", {}).values(), *itertools.chain(*content.get("read", {}).values())]:
        yield int(user["pid"]), str(user["cmd"])
