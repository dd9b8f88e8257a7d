"""A disk that fails, stops or loses its power at the n-th call that changes it, as our files see it through `os`.

It stands before a real folder, so that whoever reads sees what was written. Beside it, it keeps what a loss of power could leave:
content that was not synced may be there, or a part of it, or zeros; names that were made, moved or removed may have stayed as they
were from any moment on, until their folder is synced. Folders themselves count as durable.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


class Killed(BaseException):
    """The process is gone: from here on, nothing that it does reaches the disk."""


@dataclass(eq=False)
class _Content:
    now: bytes = b""
    durable: bytes = b""


@dataclass
class Disk:
    """Fails at call `at` with the error `number`, once or from then on; without a number the process is killed there."""

    root: Path
    at: int = 0
    number: int | None = None
    lasting: bool = False
    calls: int = 0
    _dead: bool = False
    _names: dict[str, _Content] = field(default_factory=dict)
    _durable_names: dict[str, _Content] = field(default_factory=dict)
    _moves: list[tuple[str, str, _Content | None]] = field(default_factory=list)
    _handles: dict[int, _Content | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.root.rglob("*"):
            if path.is_file():
                self._names[str(path)] = _Content(path.read_bytes(), path.read_bytes())
        self._durable_names = dict(self._names)

    def restart(self, at: int = 0, number: int | None = None, lasting: bool = False) -> None:
        """A new process on the same disk, which fails at another call or never."""
        self.at, self.number, self.lasting, self.calls, self._dead = at, number, lasting, 0, False
        self._handles.clear()

    def lose_power(self, chance: random.Random) -> None:
        """Leave in the folder what a loss of power could leave."""
        names, kept = dict(self._durable_names), set[str]()
        for folder, name, content in self._moves:
            if folder not in kept and chance.random() < 0.2:
                kept.add(folder)  # what changed in this folder after this moment never reached the disk
            if folder not in kept:
                names.pop(name, None) if content is None else names.__setitem__(name, content)
        for name in self._names:
            os.unlink(name)
        for content in {id(content): content for content in names.values()}.values():
            content.now = content.durable = _survived(content, chance)
        for name, content in names.items():
            Path(name).write_bytes(content.now)
        self._names, self._durable_names, self._moves = names, dict(names), []

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Have `os` use this disk for all that lies in its folder."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "close", "write", "fdopen", "ftruncate", "fsync", "fdatasync", "replace", "unlink", "chmod"):
                patch.setattr(os, name, self._instead_of(getattr(os, name), getattr(self, f"_{name}")))
            yield

    def _instead_of(self, real: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **named: Any) -> Any:
            return ours(real, first, *rest) if self._concerns(first) else real(first, *rest, **named)

        return call

    def _concerns(self, where: Any) -> bool:
        if isinstance(where, int):
            return where in self._handles
        return Path(where).is_relative_to(self.root)

    def _next(self) -> None:
        if self._dead:
            raise Killed
        self.calls += 1
        if self.at and (self.calls == self.at or (self.lasting and self.calls > self.at)):
            if self.number is not None:
                raise OSError(self.number, os.strerror(self.number))
            self._dead = True
            raise Killed

    def _open(self, real: Callable[..., int], path: Any, flags: int, mode: int = 0o777) -> int:
        self._next()
        handle, name = real(path, flags, mode), str(path)
        if Path(name).is_dir():
            self._handles[handle] = name
        else:
            if name not in self._names:
                self._move(name, _Content())
            self._handles[handle] = self._names[name]
        return handle

    def _close(self, real: Callable[..., None], handle: int) -> None:
        del self._handles[handle]
        real(handle)

    def _write(self, real: Callable[..., int], handle: int, data: Any) -> int:
        content, length = self._handles[handle], len(data)
        assert isinstance(content, _Content)
        try:
            self._next()
        except (OSError, Killed):
            if self.calls == self.at:  # part of it is there
                content.now += bytes(data[: length // 2])
                real(handle, data[: length // 2])
            raise
        taken = data[: length if length <= 64 else length - 40]  # a disk may take less than it was given
        content.now += bytes(taken)
        return real(handle, taken)

    def _fdopen(self, real: Callable[..., Any], handle: int, mode: str) -> "_File":
        self._next()
        return _File(handle)

    def _ftruncate(self, real: Callable[..., None], handle: int, length: int) -> None:
        self._next()
        content = self._handles[handle]
        assert isinstance(content, _Content)
        content.now = content.now[:length].ljust(length, b"\0")
        real(handle, length)

    def _fsync(self, real: Callable[..., None], handle: int) -> None:
        self._next()
        synced = self._handles[handle]
        if isinstance(synced, _Content):
            synced.durable = synced.now
            return
        for folder, name, content in self._moves:
            if folder == synced:
                self._durable_names.pop(name, None) if content is None else self._durable_names.__setitem__(name, content)
        self._moves = [move for move in self._moves if move[0] != synced]

    _fdatasync = _fsync

    def _replace(self, real: Callable[..., None], old: Any, new: Any) -> None:
        self._next()
        real(old, new)
        self._move(str(new), self._names[str(old)])
        self._move(str(old), None)

    def _unlink(self, real: Callable[..., None], path: Any) -> None:
        self._next()
        real(path)
        self._move(str(path), None)

    def _chmod(self, real: Callable[..., None], path: Any, mode: int) -> None:
        self._next()
        real(path, mode)

    def _move(self, name: str, content: _Content | None) -> None:
        self._moves.append((str(Path(name).parent), name, content))
        self._names.pop(name, None) if content is None else self._names.__setitem__(name, content)


class _File:
    """What `os.fdopen` gives: every write is a call."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        return len(data)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self._handle

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._handle)


def _survived(content: _Content, chance: random.Random) -> bytes:
    now, durable = content.now, content.durable
    if now == durable:
        return now
    shared = next((at for at, (new, old) in enumerate(zip(now, durable, strict=False)) if new != old), min(len(now), len(durable)))
    torn = now[: chance.randint(shared, len(now))]
    return chance.choice([now, durable, torn, torn.ljust(len(now), b"\0"), now[:shared] + bytes(len(now) - shared)])
