"""What a critical reader would hold the report to: whose figure it is, how much was done, and what went wrong."""

import re
from pathlib import Path

import pytest
from page_reader import told
from reported_results import write_results

from flows.report import front
from flows.report.facts import Facts, read


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return read(write_results(tmp_path))


def test_failures_are_counted_by_reason(facts: Facts) -> None:
    text = told(facts)["failures"]
    assert "2 of 14 trials did not count." in text
    assert "failed its loss diverged 1 7% trial 3: the loss <b>is</b> nan" in text
    assert "rejected breaks a constraint 1 7% trial 6: too slow" in text


def test_time_is_told_where_it_is_recorded(tmp_path: Path) -> None:
    text = told(read(write_results(tmp_path, train_lineage={"seconds": None})))["cost"]
    assert "search 10.0 s 33%" in text
    assert "train not recorded" in text
    assert "2 seeds of 2 epochs" in text
    assert "22.0 s in evaluations, 2.0 s each in the mean, the longest 4.0 s" in text


def test_epochs_that_are_not_evaluated_are_counted_too(tmp_path: Path) -> None:
    results = write_results(tmp_path)
    curve = results / "train" / "curve.csv"
    curve.write_text("seed,epoch,training_loss,accuracy\n0,5,0.5,0.8\n0,10,0.4,0.9\n")
    assert "2 seeds of 10 epochs" in told(read(results))["cost"]


def test_an_int8_file_is_not_taken_for_the_floats_that_it_was_made_of(tmp_path: Path) -> None:
    latency = {"ms": 0.1, "low": 0.09, "high": 0.11}
    variants = {"float": {"graph": "g" * 64}, "int8": {"agreement": 0.975}}
    changed = {"ships": "int8", "variants": variants, "test": {"accuracy": 0.925}, "latency": latency}
    results = write_results(tmp_path, export_manifest=changed)
    text = told(read(results))
    assert "0.9400 ± 0.0141 on test, 0.9250 as the int8 file that ships" in text[""]
    assert "on test in floats, 0.9250 as the int8 file" in text["answer"]
    assert "The file in floats, of which the int8 file was made, was checked against PyTorch" in text["answer"]
    assert "Trials were measured in floats; the int8 file that ships takes 0.1000 ms." in text["front"]
    assert "by the weights that ship, in floats." in text["confusion"]
    alone = told(read(write_results(tmp_path)))
    assert [name for name, words in alone.items() if name and re.search("in floats|Trials were measured", words)] == []


def test_several_objectives_show_how_their_front_grew(tmp_path: Path) -> None:
    objective = {"metrics": ["accuracy", "-latency_ms"], "constraints": {}, "choose": "best"}
    results = write_results(tmp_path, search_best={"objective": objective})
    path = results / "search" / "history.csv"
    path.write_text("\n".join(f"{line}{'' if at == 0 else at / 1000}" for at, line in enumerate(path.read_text().splitlines())))
    found = read(results)
    assert list(front.growth(found)) == ["how the front grew"]
    text = told(found)
    assert "in the product of their units" in text["front"]
    assert "hypervolume" not in text["progress"]
    assert front.growth(read(write_results(tmp_path))) == {}


@pytest.mark.parametrize(("bound", "verdict"), [("<= 2000", "met"), ("<= 1000", "not met")])
def test_what_a_file_cannot_tell_is_demanded_of_the_search(tmp_path: Path, bound: str, verdict: str) -> None:
    found = read(write_results(tmp_path, search_best={"objective": {"constraints": {"parameters": bound}}}))
    text = told(found)["answer"]
    assert f"demanded parameters 1009 {bound}: {verdict} in the search" in text
    assert "demanded latency_ms 0.21 <= 0.5: met" in text
    assert f"demands {'all met' if verdict == 'met' else 'not met'} latency_ms 0.21 <= 0.5; parameters 1009 {bound}" in text
