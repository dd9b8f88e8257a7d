"""Atomic writes: whatever fails at whatever moment, a reader sees the old content or the new one."""

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas import atomic


def test_content_arrives(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic.write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    atomic.write_json(path, {"a": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None]}
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_json_has_no_numbers_that_other_readers_refuse(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "file", float("nan"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failing", ["fsync", "replace", "chmod", "fdopen"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_failing_disk_leaves_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, call: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    raised = fail_at(monkeypatch, failing, call)
    try:
        atomic.write_text(path, "new")
    except OSError:
        assert raised
    monkeypatch.undo()
    assert path.read_text() == ("new" if not raised or (failing, call) == ("fsync", 2) else "old")
    assert os.listdir(tmp_path) == ["file"]


def test_what_fill_raises_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write(path, fill)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "because no space is left on the disk; .*: make room, then run the same command again"),
        (errno.EDQUOT, "because the quota of the disk is used up; "),
        (errno.EROFS, "because the disk is read-only; "),
        (errno.EACCES, "because the rights of the file or its folder do not allow it; "),
        (errno.ENOENT, "because it or its folder was removed; "),
        (errno.EIO, "because the disk reports an input/output error; "),
        (errno.ENAMETOOLONG, "because file name too long; .*: mend this, then run"),
    ],
)
def test_an_error_of_the_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(atomic.DiskError, match=rf"^{tmp_path}/file cannot be written, {words}") as caught:
        atomic.write_text(tmp_path / "file", "new")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):  # noqa: S301 - our own
        assert (type(error), error.errno, str(error)) == (atomic.DiskError, number, str(caught.value))


def test_why_it_failed_is_not_hidden_by_failing_to_clear_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("replace", errno.ENOSPC), ("unlink", errno.EIO)):
        monkeypatch.setattr(os, name, lambda *paths, number=number: (_ for _ in ()).throw(OSError(number, "")))
    with pytest.raises(atomic.DiskError, match="no space is left"):
        atomic.write_text(tmp_path / "file", "new")


def test_a_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    with pytest.raises(atomic.DiskError, match=r"gone/file cannot be written, because it or its folder was removed"):
        atomic.write_text(tmp_path / "gone" / "file", "new")


def test_folders_are_made_with_their_parents_and_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic, "sync_folder", synced.append)
    atomic.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert set(synced) == {tmp_path, tmp_path / "a"}
    atomic.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_a_growing_file_begins_where_it_is_told_to(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"kept, dropped")
    file = atomic.Growing(path, 5)
    file.append(b" and more")
    file.append(b"")
    file.close()
    assert path.read_bytes() == b"kept, and more"


def test_nothing_is_added_behind_what_somebody_else_wrote(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = atomic.Growing(path, 0)
    file.append(b"ours")
    path.write_bytes(b"ours, theirs")
    with pytest.raises(atomic.DiskError, match="has 12 bytes where 4 were written, so something else changes it"):
        file.append(b" more")
    file.close()
    assert path.read_bytes() == b"ours, theirs"


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> list[str]:
    """Have the function of os fail at its n-th call; returns what has been raised."""
    real: Callable[..., Any] = getattr(os, name)
    calls: list[str] = []
    raised: list[str] = []

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raised.append(name)
            raise OSError(28, "no space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(os, name, failing)
    return raised
