"""The report from results written by hand: it says what they hold, calls a tie a tie, and no text of a user becomes part of the page."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from page_reader import Reader, told, written
from reported_results import WINNER, trial_rows, write_results

from flows.report import choices, front, origin, page, trials
from flows.report.facts import Facts, read
from flows.report.html import Table, element

HOSTILE = "</script><script>alert(1)</script><b>\"'&|"


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return read(write_results(tmp_path))


def test_the_answer_comes_first_with_its_spread(facts: Facts) -> None:
    text = told(facts)
    assert next(iter(name for name in text if name)) == "answer"
    for words in (
        "0.9400 ± 0.0141",
        "mean and spread of 2 seeds; 40 examples leave ±0.0905",
        "0.2 ms",
        "0.19 to 0.21",
        "20 KiB",
        "1,009 parameters",
    ):
        assert words in text["answer"]
    assert "latency_ms 0.21 <= 0.5" in text["answer"]
    assert "+0.0300, noise ±0.0500: within noise" in text["answer"]


def test_one_seed_has_no_spread_and_a_missed_steadiness_is_told(tmp_path: Path) -> None:
    results = write_results(tmp_path, export_manifest={"latency": {"steady": False}, "constraints": None})
    details = json.loads((results / "train" / "details.json").read_text())
    details["seeds"] = {"seed_0": {"accuracy": 0.95}}
    (results / "train" / "details.json").write_text(json.dumps(details))
    best = json.loads((results / "search" / "best.json").read_text())
    best["objective"]["constraints"] = {}
    (results / "search" / "best.json").write_text(json.dumps(best))
    manifest = json.loads((results / "export" / "manifest.json").read_text()) | {"constraints": {}}
    (results / "export" / "manifest.json").write_text(json.dumps(manifest))
    answer = told(read(results))["answer"]
    assert "accuracy on test 0.9400 one seed" in answer
    assert "one seed, so its spread is not known" in answer
    assert "The machine was not steady" in answer
    assert "the objective names no constraint" in answer


def test_nothing_is_loaded_and_everything_is_forbidden(facts: Facts) -> None:
    text = written(facts)
    assert re.findall(r"(?:https?:)?//\w", text) == []
    reader = Reader(text)
    loaded = [attributes.get("src") or attributes.get("href") for attributes in reader.all("script", "link", "img", "iframe", "source")]
    assert loaded == ["data:,", None]
    [rule] = [attributes["content"] for attributes in reader.all("meta") if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert str(rule).startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in str(rule)
    assert [attributes for _, attributes in reader.elements if any(name == "style" or name.startswith("on") for name in attributes)] == []


def test_what_a_user_has_written_stays_text(tmp_path: Path) -> None:
    rows = trial_rows()
    for row in rows:
        row[HOSTILE] = row.pop("operation")
    rows[3]["error"] = HOSTILE
    results = write_results(tmp_path, [HOSTILE, "dog"], rows)
    for name in ("best", "candidates", "telemetry"):
        path = results / "search" / f"{name}.json"
        path.write_text(path.read_text().replace('"operation"', json.dumps(HOSTILE)))
    found = read(results)
    reader = Reader(written(found))
    assert len(reader.all("script")) == 1
    assert reader.all("b") == []
    for section in ("confusion", "network", "choices", "failures", "trials"):
        assert HOSTILE in reader.texts[section]
    tables = page.markdown(page.sections(found))
    assert "<script>" not in tables
    effects = [line for line in tables.splitlines() if line.startswith("| &lt;/script")]
    assert len(effects) > 3
    assert {line.count("|") - line.count("\\|") for line in effects} <= {3, 4, 7, 8}  # those of the tables that hold choices


def test_the_page_can_be_read_without_seeing_it(facts: Facts) -> None:
    text = written(facts)
    reader = Reader(text)
    names = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = [str(attributes["href"])[1:] for attributes in reader.all("a")]
    assert len(targets) > 20
    assert [target for target in targets if target not in names] == []
    assert len(reader.all("table")) == len(reader.all("caption")) >= 10
    assert [attributes for attributes in reader.all("th") if attributes.get("scope") not in ("row", "col")] == []
    assert [attributes for attributes in reader.all("svg") if not {"aria-hidden", "aria-label"} & set(attributes)] == []
    labelled = {attributes.get("for") for attributes in reader.all("label")}
    loose = [
        attributes for attributes in reader.all("input", "select") if attributes["id"] not in (*labelled, "filter", "status", "decisions")
    ]
    assert loose == []


def test_equal_results_give_an_equal_page(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copytree(tmp_path / "results", tmp_path / "other" / "results")
    assert written(read(tmp_path / "other" / "results")) == written(facts)


def test_the_front_is_what_nothing_dominates(facts: Facts) -> None:
    rows = front.front(facts, "latency_ms")
    done = [row for row in facts.trials if row.comparable]
    for row in rows:
        better = [
            other
            for other in done
            if other.metrics["accuracy"] > row.metrics["accuracy"] and other.metrics["latency_ms"] <= row.metrics["latency_ms"]
        ]
        assert better == []
    assert rows[0].number == 0
    assert front.costs(facts) == ["latency_ms", "parameters"]


def test_neighbours_differ_in_one_choice_and_ties_are_called_ties(facts: Facts) -> None:
    winner = facts.trials[WINNER].architecture
    found = choices.neighbours(facts)
    assert {row.number for row, _ in found} == {
        row.number for row in facts.trials if sum(row.architecture[name] != option for name, option in winner.items()) == 1
    }
    text = told(facts)["neighbours"]
    assert re.search(r"\d of the 4 edits of one choice of trial 9 were tried", text)
    assert "a tie: within noise" in text
    assert "worse beyond noise" not in text or "better beyond noise" not in text


def test_the_chain_leads_from_the_file_to_the_data(facts: Facts) -> None:
    text = told(facts)["origin"]
    at = [
        text.index(words)
        for words in (
            *("f" * 64, "g" * 64, "e" * 64, "train-abc", "trial 9 of 14", "depth 2, kernel 3, operation skip"),
            *("search-abc", "predictor, initial 5", "d" * 64),
        )
    ]
    assert at == sorted(at)


def test_a_quantized_file_is_linked_to_the_floats_that_the_search_timed(tmp_path: Path) -> None:
    changed = {"ships": "int8", "graph": "q" * 64, "timed_in_search": "g" * 64, "variants": {"float": {"graph": "g" * 64}}}
    rows = dict(row[:2] for row in origin.links(read(write_results(tmp_path, export_manifest=changed))))
    assert rows["graph"] == "the structure that the search timed"


def test_what_ships_descends_from_trials_that_are_named(facts: Facts) -> None:
    rows = {row.number: row.architecture for row in facts.trials}
    found = {number: (sources, edits) for number, _, sources, edits in origin.steps(facts)}
    assert list(found) == ["2", "4", str(WINNER)]
    assert found["2"] == ("none", "all of it")
    assert found["4"][0] == "trial 2"
    assert found[str(WINNER)][0] == "trial 4 and trial 2"
    new = [name for name, option in rows[WINNER].items() if option not in (rows[4][name], rows[2][name])]
    assert [edit.split()[0] for edit in found[str(WINNER)][1].split("; ") if edit] == new


def test_a_trial_that_goes_on_with_the_weights_of_another_descends_from_it(tmp_path: Path) -> None:
    rows = [row | ({"parent": 1, "origin": ""} if row["number"] == WINNER else {}) for row in trial_rows()]
    found = {number: sources for number, _, sources, _ in origin.steps(read(write_results(tmp_path, trials=rows)))}
    assert found == {"1": "none", str(WINNER): "trial 1"}


def test_trials_without_the_metric_of_the_winner_are_compared_by_the_objective(tmp_path: Path) -> None:
    rows = [{("flops" if name == "accuracy" else name): value for name, value in row.items()} for row in trial_rows()]
    for row in rows:
        row["flops"] = 10 if row["status"] == "done" else ""
    objective = {"metrics": ["-flops"], "constraints": {}, "choose": "best"}
    found = read(write_results(tmp_path, trials=rows, search_best={"objective": objective}))
    assert (found.measure, found.sign, found.noisy) == ("flops", -1, False)
    assert "all 10 trials that can be compared score the same" in told(found)["choices"]


def test_too_few_trials_are_called_so(tmp_path: Path) -> None:
    found = read(write_results(tmp_path, trials=[row for row in trial_rows() if row["number"] in (0, 1, WINNER)]))
    assert "3 trials of different functions can be compared, and 10 are the least" in told(found)["choices"]


def test_of_very_many_trials_the_best_are_listed(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "MOST", 5)
    listed = trials.listed(facts)
    best = sorted(facts.scored, key=lambda row: row.metrics["accuracy"], reverse=True)[:5]
    assert sorted(row.number for row in listed) == [row.number for row in listed]
    assert sum(row.metrics["accuracy"] for row in listed) == pytest.approx(sum(row.metrics["accuracy"] for row in best))
    assert "The best 5 of 14 trials are listed" in told(facts)["trials"]


def test_a_choice_may_have_the_name_of_a_column(tmp_path: Path) -> None:
    results = write_results(tmp_path)
    path = results / "search" / "trials.csv"
    header, rest = path.read_text().split("\n", 1)
    path.write_text(header.replace("depth,kernel,operation", "status,error,accuracy") + "\n" + rest)
    found = read(results)
    assert set(found.trials[0].architecture) == {"status", "error", "accuracy"}
    assert found.trials[0].status == "done"
    assert found.trials[0].metrics["accuracy"] == 0.9


def test_tables_are_told_to_prefect_too(facts: Facts) -> None:
    text = page.markdown(page.sections(facts))
    for title in (
        "Answer",
        "What it costs to be good",
        "What the choices are worth",
        "One edit from what ships",
        "Failures by reason",
        "Time and cost",
    ):
        assert f"### {title}\n" in text


def test_markup_is_made_only_of_markup() -> None:
    made = element("p", {"title": '"<'}, "<b>", element("i", None, "&"))
    assert made == '<p title="&quot;&lt;">&lt;b&gt;<i>&amp;</i></p>'
    assert element("input", {"checked": True, "hidden": False, "name": None, "value": 0.5}) == '<input checked value="0.5">'
    table: Any = Table("caption", ("a", "b", "c", "d"), [("x|y", "", element("svg"), element("a", None, "1"))], frozenset(("d",)))
    assert table.markdown().splitlines()[2:] == ["| a | b | d |", "| --- | --- | ---: |", "| x\\|y |  | 1 |"], "but no pictures"
