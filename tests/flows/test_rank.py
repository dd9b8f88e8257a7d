"""`nasflow rank --measured`: made-up devices change the order and the choice, and what does not belong is refused in a sentence."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from recorded_project import inside, nasflow, write_settings

from flows import packed, settings
from flows.packed import Packed

SEARCH = "0123456789abcdef"
TRIALS = (4, 0, 9)
ACCURACY = {4: 0.9, 0: 0.8, 9: 0.7}


def digest(trial: int) -> str:
    return f"{trial:x}" * 64


def offered(trial: int) -> dict[str, Any]:
    metrics = {"accuracy": ACCURACY[trial], "latency_ms": 1.0, "latency_ms_low": 0.9, "latency_ms_high": 1.1, "int8_latency_ms": 1.0}
    return {"trial": trial, "canonical": f"form {trial}", "metrics": {"confirm": metrics, "select": {}}, "feasible": True, "graph": None}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A search that left three candidates, which were packed; the current folder is its."""
    demand(tmp_path, metrics=["accuracy", "-latency_ms"])
    (tmp_path / "results/search/candidates.json").write_text(json.dumps([offered(trial) for trial in TRIALS]))
    packed.remember(tmp_path, SEARCH, [Packed(trial, f"form {trial}", f"{trial}" * 64, digest(trial), 5) for trial in TRIALS])
    write_settings(tmp_path)
    with inside(tmp_path):
        yield tmp_path


def demand(root: Path, **objective: Any) -> None:
    """Let the search have had an objective."""
    folder = root / "results" / "search"
    folder.mkdir(parents=True, exist_ok=True)
    best = {"search": SEARCH, "trial": TRIALS[0], "metric": "accuracy", "objective": objective}
    (folder / "best.json").write_text(json.dumps(best))


def device(name: str, times: Mapping[str, float], threads: int = 1) -> str:
    """Write what a device would have measured: milliseconds by SHA-256."""
    models = [
        {"sha256": sha256, "measurements": [{"batch_size": 1, "threads": threads, "p50_ms": value}]} for sha256, value in times.items()
    ]
    content = {"format": 2, "machine": {"processor": f"Chip {name}"}, "provider": "CPUExecutionProvider", "models": models}
    Path(name).write_text(json.dumps(content))
    return name


def times(*values: float) -> dict[str, float]:
    return {digest(trial): value for trial, value in zip(TRIALS, values, strict=True)}


def places(*words: str) -> list[tuple[int, int]]:
    answer = nasflow("rank", "--measured", *words, "--json")
    assert answer.code == 0, answer.errors
    return [(row["trial"], row["before"]) for row in json.loads(answer.output)["ranking"]]


def test_the_table_says_who_was_where_and_wins_now(project: Path) -> None:
    demand(project, metrics=["accuracy", "-latency_ms"], constraints={"latency_ms": "<= 5"})
    answer = nasflow("rank", "--measured", device("pi.json", times(9.0, 3.0, 4.0)))
    assert (answer.code, answer.errors) == (0, "")
    assert answer.output.splitlines() == [
        "rank  before  trial  accuracy  here  pi.json  front  breaks",
        "1     2       0      0.8000    1 ms  3 ms     yes",
        "2     3       9      0.7000    1 ms  4 ms",
        "3     1       4      0.9000    1 ms  9 ms            latency_ms 9 breaks <= 5",
        "pi.json: Chip pi.json, CPUExecutionProvider, batch 1, threads 1",
        "winner on the device: trial 0, number 2 before",
    ]


def test_nothing_is_written_unless_asked_for(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    assert places(device("a.json", times(1.0, 2.0, 3.0))) == [(4, 1), (0, 2), (9, 3)]
    assert (project / "params.yaml").read_bytes() == before


def test_the_choice_is_written_with_all_that_export_judges_by(project: Path) -> None:
    demand(project, metrics=["accuracy"], constraints={"latency_ms": "<= 5"})
    words = ["rank", "--measured", device("a.json", times(9.0, 3.0, 4.0)), device("b.json", times(1.0, 4.5, 4.0)), "--choose"]
    answer = nasflow(*words)
    assert (answer.code, answer.errors) == (0, "params.yaml now has trial 0: `nasflow run` trains and ships it, and no search runs again\n")
    chosen = settings.read(project)
    measured = chosen.export.measured
    assert (chosen.train.trial, measured is None) == (0, False)
    assert measured is not None
    assert (measured.search, measured.trial, measured.graph) == (SEARCH, 0, "0" * 64)
    assert [(one.device, one.latency_ms, one.threads) for one in measured.devices] == [("Chip a.json", 3.0, 1), ("Chip b.json", 4.5, 1)]
    assert nasflow(*words, "--without", "0").code == 0
    assert settings.read(project).train.trial == 9
    assert settings.read(project, ["export.measured=null", "train.trial=null"]).export.measured is None


def test_what_is_left_out_keeps_its_place_before(project: Path) -> None:
    assert places(device("a.json", times(1.0, 2.0, 3.0)), "--without", "4") == [(0, 2), (9, 3)]


def test_a_constraint_must_hold_on_all_devices(project: Path) -> None:
    demand(project, metrics=["accuracy"], constraints={"latency_ms": "<= 5"})
    one, other = device("a.json", times(1.0, 9.0, 9.0)), device("b.json", times(9.0, 1.0, 9.0))
    assert places(one)[0] == (4, 1)
    assert places(other)[0] == (0, 2)
    before = (project / "params.yaml").read_bytes()
    answer = nasflow("rank", "--measured", one, other, "--choose")
    assert (answer.code, answer.errors.count("\n")) == (1, 1)
    assert "no candidate meets the constraints on every device" in answer.errors
    assert "latency_ms 9 breaks <= 5" in answer.output
    assert (project / "params.yaml").read_bytes() == before


def test_what_a_device_lacks_is_left_out_and_said(project: Path) -> None:
    partial = times(1.0, 2.0, 3.0)
    del partial[digest(4)]
    answer = nasflow("rank", "--measured", device("a.json", partial))
    assert answer.code == 0
    assert "not measured on every device, so not ranked: trial 4" in answer.output
    assert "winner on the device: trial 0, number 2 before" in answer.output
    answer = nasflow("rank", "--measured", "a.json", device("b.json", {digest(4): 1.0}))
    assert (answer.code, "no candidate was measured on every device" in answer.errors) == (1, True)


def test_settings_of_devices_may_differ_and_are_said(project: Path) -> None:
    one, four = device("one.json", times(1.0, 2.0, 3.0)), device("four.json", times(1.0, 2.0, 3.0), threads=4)
    assert "four.json: Chip four.json, CPUExecutionProvider, batch 1, threads 4" in nasflow("rank", "--measured", one, four).output
    answer = nasflow("rank", "--measured", four, "--setting", "1", "1")
    assert (answer.code, "has times of batch 1, threads 4, not of batch 1, threads 1" in answer.errors) == (1, True)


def test_an_objective_without_latency_is_told_that_no_device_matters(project: Path) -> None:
    demand(project, metrics=["accuracy"], constraints={"int8_latency_ms": "<= 5"})
    answer = nasflow("rank", "--measured", device("a.json", times(9.0, 2.0, 3.0)))
    assert "the objective names no latency_ms, so that no device changes the order" in answer.output
    assert "int8_latency_ms is the one of this machine" in answer.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["foreign.json"], "has times of a file with SHA-256 ffffffffffffffff, which is no candidate"),
        (["none.json"], "none.json does not exist"),
        (["good.json", "--without", "3"], "--without 3 is no candidate of the search: its candidates are 4, 0, 9"),
        (["good.json", "--setting", "0", "1"], "batch size and threads are at least 1"),
    ],
)
def test_each_mistake_is_a_sentence(project: Path, words: list[str], sentence: str) -> None:
    device("good.json", times(1.0, 2.0, 3.0))
    device("foreign.json", {**times(1.0, 2.0, 3.0), "f" * 64: 1.0})
    answer = nasflow("rank", "--measured", *words)
    assert (answer.code, answer.output, answer.errors.count("\n")) == (1, "", 1)
    assert sentence in answer.errors


def test_files_of_a_search_that_is_gone_are_foreign(project: Path) -> None:
    good = device("good.json", times(1.0, 2.0, 3.0))
    candidates = project / "results/search/candidates.json"
    candidates.write_text(json.dumps([{**offered(4), "canonical": "another form"}, offered(0), offered(9)]))
    answer = nasflow("rank", "--measured", good)
    assert (answer.code, "SHA-256 4444444444444444, which is no candidate" in answer.errors) == (1, True)
    (project / ".nasflow/packed" / f"{SEARCH}.json").write_text("{")
    assert "SHA-256 4444444444444444, which is no candidate" in nasflow("rank", "--measured", good).errors
    candidates.unlink()
    assert (
        "results/search/candidates.json is missing: bring it back with `dvc pull`, or run `nasflow run`"
        in nasflow("rank", "--measured", good).errors
    )


def test_one_of_two_things_is_asked_for(project: Path) -> None:
    good = device("good.json", times(1.0, 2.0, 3.0))
    assert "say `--pack candidates.zip`" in nasflow("rank", good).errors
    for words in (["a.zip", "b.zip"], ["a.zip", "--choose"]):
        assert "no other option goes with it" in nasflow("rank", "--pack", *words).errors
