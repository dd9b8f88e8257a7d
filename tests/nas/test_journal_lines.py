"""Trials in a journal come back bit for bit, also to another search that reads them."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.journal import FileJournal, decode_trial, encode_trial, read
from nas.trial import Proposal, Report, Score, Trial

texts = st.text(max_size=5)
float32s = st.floats(width=32)
mixtures = st.none() | st.dictionaries(
    texts, st.lists(float32s, max_size=4).map(lambda weights: torch.tensor(weights, dtype=torch.float32)), max_size=3
)
counts = st.none() | st.integers(0, 10**12)
origins = st.lists(st.integers(0, 10**12), max_size=3).map(tuple)
proposals = st.builds(Proposal, st.dictionaries(texts, texts, max_size=3).map(Architecture), counts, counts, mixtures, origins)
metrics = st.dictionaries(texts, st.floats() | st.integers(-(10**15), 10**15), max_size=4)
reports = st.builds(Report, metrics, st.floats(0, 1e9), st.none() | texts, mixtures, counts)
plain_scores = st.builds(Score, st.floats(allow_nan=False), st.lists(st.floats(allow_nan=False), max_size=3).map(tuple), st.just(()))
points = st.lists(st.tuples(*[st.floats(allow_nan=False)] * 3).map(sorted), min_size=1, max_size=3)
noisy_scores = st.builds(
    lambda feasibility, found: Score(feasibility, tuple(value for _, value, _ in found), tuple((low, high) for low, _, high in found)),
    st.floats(allow_nan=False),
    points,
)
scores = plain_scores | noisy_scores
trials = st.one_of(
    st.builds(Trial, st.integers(0, 10**9), proposals), st.builds(Trial, st.integers(0, 10**9), proposals, reports, st.none() | scores)
)


def bits(value: Any) -> Any:
    """A value that is equal only for the same bits: NaN, minus zero, integers and tensors told apart."""
    match value:
        case float():
            return struct.pack("<d", value) if value == value else "nan"
        case torch.Tensor():
            return value.dtype, tuple(value.shape), [bits(number) for number in value.tolist()]
        case Trial() | Proposal() | Report():
            return type(value), [bits(getattr(value, name)) for name in value.__slots__]
        case Architecture():
            return value
        case dict():
            return {name: bits(item) for name, item in value.items()}
        case tuple():
            return type(value), [bits(item) for item in value]
    return type(value), value


@given(trials)
def test_a_trial_comes_back_bit_for_bit(trial: Trial) -> None:
    assert bits(decode_trial(json.loads(json.dumps(encode_trial(trial))))) == bits(trial)


def test_numbers_of_other_libraries_are_written_as_numbers(tmp_path: Path) -> None:
    metrics = {"a": np.float32(0.1), "b": torch.tensor(0.1), "c": np.int64(7)}
    proposal = Proposal(Architecture({}), steps=np.int64(12))  # type: ignore[arg-type]
    with FileJournal(tmp_path, fingerprint="f") as journal:
        journal.resume()
        journal.append(Trial(0, proposal, Report(metrics)))  # type: ignore[arg-type]
        journal.commit([], {})
    (trial,) = read(tmp_path)
    assert trial.report is not None
    assert trial.report.metrics == {"a": float(np.float32(0.1)), "b": float(np.float32(0.1)), "c": 7}
    assert (trial.proposal.steps, type(trial.proposal.steps)) == (12, int)  # 12.0 would be another fidelity in words


def test_another_search_is_read_without_being_touched(tmp_path: Path) -> None:
    with FileJournal(tmp_path, fingerprint="f") as journal:
        journal.resume()
        for number in range(3):
            journal.append(Trial(number, Proposal(Architecture({"a": str(number)})), Report({"accuracy": 0.5}), Score(0.0, (0.5,))))
            if number == 1:
                journal.commit([], {})
    before = (tmp_path / "journal.jsonl").read_bytes()
    for path in (tmp_path, tmp_path / "journal.jsonl"):
        assert [trial.number for trial in read(path)] == [0, 1]
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    with pytest.raises(FileNotFoundError, match=r"holds no journal\.jsonl"):
        read(tmp_path / "nowhere")
