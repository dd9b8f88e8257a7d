"""Atomic writes: whatever fails at whatever moment, a reader sees the old content or the new one."""

import json
import os
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
