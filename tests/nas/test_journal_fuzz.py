"""A journal with bytes and lines changed at random is resumed at one of its commits or refused; what comes back is never another search."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_search import plain, search_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.journal import FileJournal, JournalError, Resumed, read

POSITIONS = st.integers(0, 10**6)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["drop line", "repeat line", "swap lines", "move line", "cut"]), POSITIONS, POSITIONS),
        st.tuples(st.sampled_from(["flip", "drop bytes", "zeros"]), POSITIONS, st.integers(1, 300)),
        st.tuples(st.just("insert"), POSITIONS, st.binary(max_size=20) | st.sampled_from([b"\n", b"\r\n", b"\0" * 9, b"00000000 \n"])),
    ),
    min_size=1,
    max_size=3,
)


def changed(data: bytes, change: tuple[str, int, Any]) -> bytes:
    how, first, second = change
    if "line" in how:
        return b"".join(_with_lines_changed(data.splitlines(keepends=True), how, first, second))
    at = first % (len(data) + 1)
    match how:
        case "cut":
            return data[:at]
        case "flip":
            return data[:at] + bytes(byte ^ (1 << second % 8) for byte in data[at : at + 1]) + data[at + 1 :]
        case "insert":
            return data[:at] + second + data[at:]
    return data[:at] + (bytes(second) if how == "zeros" else b"") + data[at + second :]


def _with_lines_changed(lines: list[bytes], how: str, first: int, second: int) -> list[bytes]:
    if not lines:
        return lines
    one, other = first % len(lines), second % len(lines)
    if how == "swap lines":
        lines[one], lines[other] = lines[other], lines[one]
    elif how == "repeat line":
        lines.insert(other, lines[one])
    else:
        line = lines.pop(one)
        if how == "move line":
            lines.insert(other, line)
    return lines


def resume(folder: Path, kind: str) -> Resumed:
    with FileJournal(folder, fingerprint=kind) as journal:
        return journal.resume()


@pytest.fixture(scope="module", params=["parallel", "learning"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Resumed]:
    """A finished search of three slots, or one with a snapshot: its kind, its folder and what it holds."""
    folder = tmp_path_factory.mktemp("search") / request.param
    search_in(folder, request.param, 16)
    return request.param, folder, resume(folder, request.param)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_a_changed_journal_is_resumed_at_a_commit_or_refused(
    undisturbed: tuple[str, Path, Resumed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[tuple[str, int, Any]]
) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr("os." + name, lambda handle: None)
    kind, whole, expected = undisturbed
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    path = folder / "journal.jsonl"
    data = path.read_bytes()
    for change in changes:
        data = changed(data, change)
    path.write_bytes(data)
    try:
        found = resume(folder, kind)
    except JournalError as error:
        assert str(folder) in str(error)  # noqa: PT017 - either is right
        assert path.read_bytes() == data
        return
    told = [trial for trial in found.trials if trial.report is not None]
    assert plain(told) == plain([trial for trial in expected.trials if trial.report is not None][: len(told)])
    assert [trial.number for trial in found.trials] == list(range(len(found.trials)))
    if kind == "learning":
        assert len(told) in (0, len(expected.trials))
        assert repr(found.state) == (repr(expected.state) if told else "{}")
    assert plain(read(folder)) == plain(told)
    assert plain(resume(folder, kind).trials) == plain(found.trials)
