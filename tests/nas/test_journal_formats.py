"""Journals of every format that was ever written can be read, and what no search wrote is refused with its line."""

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.architecture import Architecture
from nas.journal import FORMAT_VERSION, FileJournal, JournalError, Resumed, decode_trial, encode_trial, read
from nas.trial import Proposal, Report, Score, Trial

GOLDEN = Path(__file__).parent / "golden"
"""A folder per format, as `write` wrote it when that format was the latest. Never edited; a new format adds a folder."""

A, B = Architecture({"edge": "conv3", "width": "16"}), Architecture({"edge": "größer", "width": "8"})
MIXTURE = {"edge": torch.tensor([0.25, 0.75]), "width": torch.tensor([0.1, 0.9])}
TRIALS = [
    Trial(0, Proposal(A), Report({"accuracy": 0.1 + 0.2, "parameters": 7}, 1.5), Score(0.0, (0.1 + 0.2, -7))),
    Trial(1, Proposal(B, steps=0), Report({"accuracy": 1e-300}, error="LimitError: 9 s, the limit is 8", kind="time")),
    Trial(2, Proposal(A, steps=12, parent=0, mixture=MIXTURE), Report({"accuracy": 0.5}, gradient=MIXTURE), Score(0.0, (0.5,))),
    Trial(3, Proposal(B), Report({"parameters": 9.0}, error="parameters 9 breaks <= 8", kind="constraint"), Score(-0.125, ())),
    Trial(4, Proposal(A), Report({"accuracy": 0.1 + 0.2, "parameters": 7}, reused=0), Score(0.0, (0.1 + 0.2, -7))),
]
WAITING = [Trial(5, Proposal(B, parent=2)), Trial(6, Proposal(A, steps=3))]
RUNNING = {2: [], 3: [Trial(4, Proposal(A)), WAITING[0]], 4: WAITING}
"""By the trial that was finished."""
STATE = {"strategy": {"logits": torch.tensor([1.0, -0.5]), "names": ["a", "b"], "told": 5}, "evaluator": {}}


def write(folder: Path) -> None:
    with FileJournal(folder, fingerprint="golden") as journal:
        journal.resume()
        for trial in TRIALS:
            journal.append(trial)
            if trial.number >= 2:
                journal.commit(RUNNING[trial.number], STATE)


def resume(folder: Path) -> Resumed:
    with FileJournal(folder, fingerprint="golden") as journal:
        return journal.resume()


def words(value: Any) -> str:
    """Trials and states as text: tensors do not compare."""
    return repr(value)


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_a_journal_of_every_format_is_read_and_continued(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(path, folder)
    assert words(read(folder)) == words(TRIALS)
    found = resume(folder)
    assert words(found.trials) == words([*TRIALS, *WAITING])
    assert words(found.state) == words(STATE)
    with FileJournal(folder, fingerprint="golden") as journal:
        journal.resume()
        journal.append(Trial(5, Proposal(B, parent=2), Report({"accuracy": 0.25}), Score(0.0, (0.25,))))
        journal.commit(WAITING[1:], STATE)
    assert [trial.number for trial in resume(folder).trials] == list(range(7))


def test_another_way_of_writing_is_another_format(tmp_path: Path) -> None:
    """When this fails: raise FORMAT_VERSION, go on reading the old format, and add a folder to GOLDEN."""
    write(tmp_path)
    assert (tmp_path / "journal.jsonl").read_text() == (GOLDEN / f"journal-{FORMAT_VERSION}" / "journal.jsonl").read_text()


def line(record: Any) -> bytes:
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


HEADER = line({"format": 1, "fingerprint": "golden"})
TRIAL = {"number": 0, "architecture": {"a": "b"}, "metrics": {"accuracy": 0.5}, "seconds": 1.0, "score": [0.0, [0.5]]}


def committed(trial: Any = None, **commit: Any) -> list[bytes]:
    return [line({"trial": TRIAL if trial is None else trial}), line({"commit": 1, "waiting": [], "state": None, **commit})]


@pytest.mark.parametrize(
    "trial",
    [
        *(None, 3, [], {}, "x"),
        {key: value for key, value in TRIAL.items() if key != "architecture"},
        {key: value for key, value in TRIAL.items() if key != "seconds"},
        {key: value for key, value in TRIAL.items() if key != "metrics"},
        {"number": 0, "architecture": {"a": "b"}},
        *({**TRIAL, "number": number} for number in (1, -1, 0.0, "0", None, False, float("nan"), 10**30)),
        *({**TRIAL, "architecture": value} for value in ([], "x", {"a": 1}, {"a": None}, None)),
        *({**TRIAL, "metrics": value} for value in ([], {"accuracy": "high"}, {"accuracy": [1]}, {"accuracy": 10**400}, None)),
        *(
            {**TRIAL, "score": [0.0, [0.5], value]}
            for value in (1, [], [0.5], [[0.5]], [[0.6, 0.7]], [[0.1, 0.9], [0, 1]], [[float("nan"), 1.0]])
        ),
        {**TRIAL, "score": [0.0, [], []]},
        {**TRIAL, "score": [0.0, [0.5], [[0.4, 0.6]], 1]},
        *({**TRIAL, "score": value} for value in (1, [], [0.0], [0.0, 1.0], [float("nan"), []], [0.0, [float("nan")]], [0.0, ["1"]])),
        *({**TRIAL, "mixture": value} for value in ([], {"a": 1.0}, {"a": [[1.0]]}, {"a": ["x"]})),
        *({**TRIAL, key: value} for key in ("steps", "parent", "reused") for value in (-1, 1.5, "1", True, None)),
        *({**TRIAL, key: 0} for key in ("parent", "reused", "error", "kind")),
        *({**TRIAL, "origin": value} for value in (0, [], [-1], ["0"], [True], {"0": 1}, None)),
    ],
    ids=lambda trial: str(trial)[-60:],
)
def test_a_trial_that_no_search_wrote_is_refused_with_its_line(tmp_path: Path, trial: Any) -> None:
    record = line({"trial": trial})
    refused(tmp_path, [HEADER, record, *committed()[1:]], 2)
    if trial and trial != {"number": 0, "architecture": {"a": "b"}}:
        refused(tmp_path, [HEADER, line({"commit": 0, "waiting": [trial], "state": None})], 2)


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([HEADER, *committed(commit=2)], 3),
        ([HEADER, *committed(commit=True)], 3),
        ([HEADER, *committed(commit=None)], 3),
        ([HEADER, *committed(waiting=None)], 3),
        ([HEADER, *committed(waiting=[TRIAL])], 3),
        ([HEADER, *committed(waiting=[{"number": 2, "architecture": {}}])], 3),
        *(([HEADER, *committed(still=still)], 3) for still in (1, -1, True, 0.0, None, "1")),
        *(
            ([HEADER, *committed(state=state)], 3)
            for state in ("../state-1.pt", "state-2.pt", "/etc/passwd", "state-1.pt\0", 3, "", ["state-1.pt"])
        ),
        ([HEADER, *committed(), HEADER], 4),
        ([HEADER, *committed(), *committed()], 4),
        (committed(), 1),
        ([line({"fingerprint": "golden"}), *committed()], 1),
        ([line({"format": 1, "fingerprint": 3})], 1),
        ([line({"format": 1})], 1),
        ([line({"format": 1, "fingerprint": "golden", "trial": TRIAL}), line({"commit": 1})], 2),
        ([HEADER, line({})], 2),
        ([HEADER, line([])], 2),
        ([HEADER, line(b"null")], 2),
        ([HEADER, line(b"{")], 2),
        ([HEADER, line(b"\xff")], 2),
        ([HEADER, line(b"[" * 200_000)], 2),
        ([HEADER, line(b'{"commit":' + b"1" * 5000 + b"}")], 2),
        ([HEADER, line(b"")], 2),
    ],
)
def test_a_line_that_no_search_wrote_is_refused(tmp_path: Path, lines: list[bytes], number: int) -> None:
    refused(tmp_path, lines, number)


def refused(folder: Path, lines: list[bytes], number: int) -> None:
    path = folder / "journal.jsonl"
    path.write_bytes(b"".join(lines))
    for reading in (resume, read):
        with pytest.raises(JournalError, match=rf"journal\.jsonl line {number} is not what a search writes \(.*\): put back a copy of it"):
            reading(folder)
    assert path.read_bytes() == b"".join(lines)
    assert os.listdir(folder) == ["journal.jsonl"]


def test_hand_made_lines_that_fit_are_taken(tmp_path: Path) -> None:
    """Or the refusals above would prove nothing."""
    (tmp_path / "journal.jsonl").write_bytes(b"".join([HEADER, *committed()]))
    assert len(resume(tmp_path).trials) == 1


@pytest.mark.parametrize("version", [0, 4, "1", None])
def test_a_journal_of_another_format_says_what_to_do(tmp_path: Path, version: Any) -> None:
    """Its later lines may look like nothing that this version knows."""
    (tmp_path / "journal.jsonl").write_bytes(line({"format": version, "fingerprint": "golden"}) + b"anything else\n" + line({"commit": 0}))
    told = rf"has journal format {version}, this version reads and writes {FORMAT_VERSION}: finish the search with the version .*, or "
    with pytest.raises(JournalError, match=f"{told}move .* aside and run the same command again, to start anew"):
        resume(tmp_path)
    with pytest.raises(JournalError, match=f"{told}leave it out"):
        read(tmp_path)


def test_a_commit_names_only_what_is_newly_running(tmp_path: Path) -> None:
    """With very many workers the running trials would be nearly all that is written."""
    running = [Trial(number, Proposal(A, steps=number)) for number in range(60)]
    sizes = []
    with FileJournal(tmp_path, fingerprint="golden") as journal:
        journal.resume()
        for number in range(10):
            journal.append(Trial(number, running[number].proposal, Report({"accuracy": 0.5}), Score(0.0, (0.5,))))
            journal.commit(running[number + 1 : number + 51], {})
            sizes.append((tmp_path / "journal.jsonl").stat().st_size)
    assert sizes[1] - sizes[0] < sizes[0] / 10
    assert resume(tmp_path).trials[10:] == running[10:]
    with FileJournal(tmp_path, fingerprint="golden") as journal:
        waiting = journal.resume().trials[10:]
        journal.append(Trial(10, waiting[0].proposal, Report({"accuracy": 0.5}), Score(0.0, (0.5,))))
        journal.commit([Trial(11, Proposal(B)), *waiting[2:]], {})
        assert (tmp_path / "journal.jsonl").stat().st_size - sizes[-1] > sizes[0] / 2, "one that differs is named, with all behind it"
    assert [trial.proposal for trial in resume(tmp_path).trials[11:13]] == [Proposal(B), running[12].proposal]


def test_a_journal_of_the_first_format_is_continued_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "journal-1", folder)
    with FileJournal(folder, fingerprint="golden") as journal:
        running = journal.resume().trials[5:]
        journal.append(Trial(5, running[0].proposal, Report({"accuracy": 0.25}), Score(0.0, (0.25,))))
        journal.commit(running[1:], STATE)
    text = (folder / "journal.jsonl").read_text()
    assert '{"format":1,' in text
    assert "still" not in text
    assert resume(folder).trials[6:] == running[1:]


def test_trials_are_noted_in_order(tmp_path: Path) -> None:
    with FileJournal(tmp_path, fingerprint="golden") as journal:
        journal.resume()
        with pytest.raises(ValueError, match="trial 1 was finished where 0 is the next"):
            journal.append(TRIALS[1])


def test_intervals_are_a_third_part_of_a_score_where_there_are_any() -> None:
    noisy = Score(0.0, (0.5, -2.0), ((0.5, 0.5), (-2.25, -1.75)))
    trial = Trial(0, Proposal(A), Report({"accuracy": 0.5}), noisy)
    record = json.loads(json.dumps(encode_trial(trial)))
    assert record["score"] == [0.0, [0.5, -2.0], [[0.5, 0.5], [-2.25, -1.75]]]
    assert decode_trial(record) == trial
    assert len(encode_trial(TRIALS[0])["score"]) == 2, "the format of journals without intervals is as it was"


def test_a_commit_that_was_taken_out_is_missed(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    commits = [at for at, one in enumerate(lines) if b'{"commit":' in one]
    for at, due in zip(commits[:-1], (1, 2), strict=True):
        path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
        for reading in (resume, read):
            with pytest.raises(JournalError, match=rf"commit {due + 1} stands where {due} is due, so lines are missing"):
                reading(tmp_path)
    path.write_bytes(b"".join(lines[: commits[-1]]))
    assert len(read(tmp_path)) == 4, "without the last commit its trials were never committed"
