"""The journal: whatever is cut or flipped, what comes back is a committed prefix or a clear error."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_search import plain, search_in

from nas import checkpoint
from nas import journal as journal_module
from nas.architecture import Architecture
from nas.atomic import DiskError
from nas.journal import FORMAT_VERSION, FileJournal, JournalError, MemoryJournal, Resumed
from nas.trial import Proposal, Report, Score, Trial


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must be durable when is the matter of test_journal_faults.py; waiting for a real disk proves nothing more here."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda handle: None)


def done(number: int, accuracy: float = 0.5) -> Trial:
    return Trial(number, Proposal(Architecture({"a": f"option {number}"})), Report({"accuracy": accuracy}, 1.0), Score(0.0, (accuracy,)))


def waiting(number: int) -> Trial:
    return Trial(number, Proposal(Architecture({"a": f"option {number}"})))


def resume(folder: Path, fingerprint: str = "f") -> Resumed:
    with FileJournal(folder, fingerprint=fingerprint) as journal:
        return journal.resume()


def write_journal(folder: Path, count: int, *, state: Callable[[int], dict[str, Any]] = lambda told: {}, every: int = 1) -> list[Trial]:
    """Continue a journal to `count` trials with one waiting; returns what is committed."""
    with FileJournal(folder, fingerprint="f") as journal:
        known = [trial for trial in journal.resume().trials if trial.report is not None]
        for number in range(len(known), count):
            journal.append(done(number, number / 7))
            if (number + 1) % every == 0:
                journal.commit([waiting(number + 1)], state(number + 1))
    return [*(done(number, number / 7) for number in range(count)), waiting(count)]


def test_what_was_committed_comes_back_and_the_rest_does_not(tmp_path: Path) -> None:
    expected = write_journal(tmp_path, 4)
    with FileJournal(tmp_path, fingerprint="f") as journal:
        assert journal.resume().trials == expected
        journal.append(done(4))
    assert resume(tmp_path).trials == expected
    assert MemoryJournal().resume() == Resumed()


def test_every_cut_of_a_real_journal_gives_a_committed_prefix_and_the_same_end(tmp_path: Path) -> None:
    whole = search_in(tmp_path / "whole", "parallel", 8)
    data = (tmp_path / "whole" / "journal.jsonl").read_bytes()
    ends = [end for end in line_ends(data) if b'{"commit":' in data[:end].splitlines()[-1]]
    header, folder = line_ends(data)[0], tmp_path / "cut"
    folder.mkdir()
    for length in range(len(data) + 1):
        (folder / "journal.jsonl").write_bytes(data[:length])
        resumed = resume(folder, "parallel").trials
        told = [trial for trial in resumed if trial.report is not None]
        assert len(told) == sum(end <= length for end in ends)
        assert plain(told) == plain(whole[: len(told)])
        assert [trial.number for trial in resumed] == list(range(len(resumed)))
        assert (folder / "journal.jsonl").read_bytes() == data[: max(end for end in (header, *ends) if end <= max(length, header))]
    for length in (0, 5, *(end + shift for end in ends[::4] for shift in (-1, 0, 20))):
        (folder / "journal.jsonl").write_bytes(data[:length])
        assert plain(search_in(folder, "parallel", 8)) == plain(whole)


def line_ends(data: bytes) -> list[int]:
    return [position + 1 for position, byte in enumerate(data) if byte == ord("\n")]


def test_a_flipped_byte_names_its_line(tmp_path: Path) -> None:
    write_journal(tmp_path, 3)
    path = tmp_path / "journal.jsonl"
    data = path.read_bytes()
    ends = line_ends(data)
    for position in range(ends[-2] - 1):
        line = 1 + sum(end <= position for end in ends)
        for flip in (0x01, 0x80):
            path.write_bytes(data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :])
            with pytest.raises(JournalError, match=rf"journal\.jsonl line {line} is damaged"):
                resume(tmp_path)
    for position in range(ends[-2] - 1, len(data)):  # damage to the last commit line cannot be told from a torn write
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x01]) + data[position + 1 :])
        assert [trial.number for trial in resume(tmp_path).trials] == [0, 1, 2]


def test_a_page_of_the_last_commit_lost_with_the_power_is_a_torn_commit(tmp_path: Path) -> None:
    """The file has its new length, the last page is there, the page before holds zeros where the commit begins."""
    write_journal(tmp_path, 3)
    path = tmp_path / "journal.jsonl"
    data = path.read_bytes()
    ends = line_ends(data)
    for end in range(ends[-3] + 1, ends[-1] + 1):
        path.write_bytes(data[: ends[-3]] + bytes(end - ends[-3]) + data[end:])
        assert [trial.number for trial in resume(tmp_path).trials] == [0, 1, 2]
    path.write_bytes(data[: ends[1] - 9] + bytes(5) + data[ends[1] - 4 :])
    with pytest.raises(JournalError, match="line 2 is damaged"):
        resume(tmp_path)


@pytest.mark.parametrize("content", [b"my notes, worth keeping\n", b"trial,accuracy\n0,0.5\n"])
def test_a_file_that_is_no_journal_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(JournalError, match="line 1 is damaged, or this is not a journal"):
        resume(tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == content


def test_another_search_or_format_is_refused_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_journal(tmp_path, 3)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b"not committed")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="belongs to the search f, not to g: use another folder"):
        resume(tmp_path, "g")
    monkeypatch.setattr(journal_module, "FORMAT_VERSION", FORMAT_VERSION + 1)
    monkeypatch.setattr(journal_module, "_READABLE", (FORMAT_VERSION + 1,))
    with pytest.raises(
        JournalError, match=rf"format {FORMAT_VERSION}, this version reads and writes {FORMAT_VERSION + 1}: finish the search with"
    ):
        resume(tmp_path)
    assert path.read_bytes() == before


def learned(told: int) -> dict[str, Any]:
    return {"strategy": {"logits": torch.arange(3.0) * told, "names": ["a", "b"], "count": told}, "evaluator": {}}


def test_learned_state_comes_back_and_old_snapshots_go(tmp_path: Path) -> None:
    write_journal(tmp_path, 9, state=learned, every=3)
    assert sorted(os.listdir(tmp_path)) == ["journal.jsonl", "state-9.pt"]
    state = resume(tmp_path).state
    assert torch.equal(state["strategy"].pop("logits"), torch.arange(3.0) * 9)
    assert state == {"strategy": {"names": ["a", "b"], "count": 9}, "evaluator": {}}


def test_state_that_became_empty_is_not_the_old_one(tmp_path: Path) -> None:
    write_journal(tmp_path, 3, state=learned)
    write_journal(tmp_path, 4)
    assert resume(tmp_path).state == {}
    assert os.listdir(tmp_path) == ["journal.jsonl"]


def test_a_kill_between_snapshot_and_commit_line_goes_back_to_the_snapshot_before(tmp_path: Path) -> None:
    write_journal(tmp_path, 3, state=learned, every=3)
    torch.save(learned(6), tmp_path / "state-6.pt")
    (tmp_path / ".state-6.pt.abcdef").write_bytes(b"half")
    resumed = resume(tmp_path)
    assert resumed.trials[-1].number == 3
    assert resumed.state["strategy"]["count"] == 3
    assert sorted(os.listdir(tmp_path)) == ["journal.jsonl", "state-3.pt"]


def test_a_kill_before_the_old_snapshot_is_removed_leaves_it_to_the_next_start(tmp_path: Path) -> None:
    write_journal(tmp_path, 3, state=learned, every=3)
    old = (tmp_path / "state-3.pt").read_bytes()
    write_journal(tmp_path, 6, state=learned, every=3)
    (tmp_path / "state-3.pt").write_bytes(old)
    assert resume(tmp_path).state["strategy"]["count"] == 6
    assert sorted(os.listdir(tmp_path)) == ["journal.jsonl", "state-6.pt"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing although the journal names it"),
        (b"", "cannot be read"),
        (b"PK\x03\x04", "cannot be read"),
        (b"another kind", "cannot be read"),
    ],
)
def test_a_snapshot_that_is_gone_or_broken_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    write_journal(tmp_path, 3, state=learned)
    (tmp_path / "state-3.pt").unlink()
    if content is not None:
        (tmp_path / "state-3.pt").write_bytes(content)
    if content == b"another kind":
        checkpoint.save(tmp_path / "state-3.pt", {"training": {}})
    with pytest.raises(JournalError, match=rf"state-3\.pt {problem}.*put back a copy of it, or move"):
        resume(tmp_path)


def test_snapshots_hold_no_code(tmp_path: Path) -> None:
    """A snapshot that would run code when it is read is refused."""
    write_journal(tmp_path, 3, state=learned)
    torch.save({"strategy": {"path": tmp_path}}, tmp_path / "state-3.pt")
    with pytest.raises(JournalError, match="cannot be read"):
        resume(tmp_path)


def test_after_a_failing_commit_nothing_more_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned and what was noted belong to different moments then."""
    with FileJournal(tmp_path, fingerprint="f") as journal:
        journal.resume()
        journal.append(done(0))
        before = (tmp_path / "journal.jsonl").read_bytes()
        with monkeypatch.context() as broken:
            broken.setattr(os, "fdatasync", lambda handle: (_ for _ in ()).throw(OSError(5, "input/output error")))
            with pytest.raises(DiskError, match=r"journal\.jsonl cannot be written, because the disk .* what was committed before is kept"):
                journal.commit([], {})
        assert (tmp_path / "journal.jsonl").read_bytes() == before
        with pytest.raises(JournalError, match="is not open: call resume first"):
            journal.commit([], {})


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def replace_file(folder: Path) -> None:
    shutil.copy(folder / "journal.jsonl", folder / "copy")
    (folder / "copy").replace(folder / "journal.jsonl")


def write_too(folder: Path) -> None:
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"from somebody else")


def make_anew(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("state", [lambda told: {}, learned], ids=["plain", "learned"])
@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (remove_folder, "cannot be found again, because it or its folder was removed"),
        (make_anew, "cannot be found again, because it or its folder was removed"),
        (replace_file, "was replaced by another file"),
        (write_too, "so something else changes it"),
    ],
)
def test_what_happens_to_the_file_meanwhile_is_noticed_at_the_next_commit(
    tmp_path: Path, deed: Callable[[Path], None], words: str, state: Callable[[int], dict[str, Any]]
) -> None:
    folder = tmp_path / "run"
    with FileJournal(folder, fingerprint="f") as journal:
        journal.resume()
        journal.append(done(0))
        journal.commit([], state(1))
        deed(folder)
        left = sorted(path.name for path in folder.glob("*"))
        journal.append(done(1))
        with pytest.raises(DiskError, match=rf"journal\.jsonl .*{words}.*, then run the same command again"):
            journal.commit([], state(2))
    assert sorted(path.name for path in folder.glob("*")) == left
    if deed in (replace_file, write_too):
        assert [trial.number for trial in resume(folder).trials] == [0]


def test_a_file_that_is_removed_during_a_commit_is_noticed_by_that_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileJournal(tmp_path / "run", fingerprint="f") as journal:
        journal.resume()
        journal.append(done(0))
        monkeypatch.setattr(os, "fdatasync", lambda handle: remove_folder(tmp_path / "run"))
        with pytest.raises(DiskError, match="cannot be found again"):
            journal.commit([], {})


def test_what_is_cut_is_said(tmp_path: Path) -> None:
    write_journal(tmp_path, 3)
    path, said = tmp_path / "journal.jsonl", list[str]()
    whole = path.read_bytes()
    for rest, count in ((b"", 3), (b'01234567 {"trial', 3), (whole[line_ends(whole)[0] : line_ends(whole)[0] + 9], 3), (b"\0" * 50, 3)):
        path.write_bytes(whole + rest)
        said.clear()
        with FileJournal(tmp_path, fingerprint="f", say=said.append) as journal:
            journal.resume()
        assert path.read_bytes() == whole
        assert len(said) == bool(rest)
        if rest:
            assert said[0].startswith(f"{path}: cut {len(rest)} bytes behind line 7, ")
            assert f"; {count} trials were committed before" in said[0]


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"run cannot be made, because .*; nothing was written"):
        resume(tmp_path / "file" / "run")
    monkeypatch.setattr(os, "open", lambda *arguments: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(
        DiskError, match=r"journal\.jsonl cannot be opened for writing, because the disk is read-only; what it holds is kept"
    ):
        resume(tmp_path)
