"""The table evaluator: what is looked up, at which fidelity, and how wrong tables are answered."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.architecture import Architecture
from nas.evaluators.table import Table, parse
from nas.trial import Proposal, Trial

CELL = "|none~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|none~1|avg_pool_3x3~2|"
ARCHITECTURE = Architecture(
    {
        "edge_0_1": "none",
        "edge_0_2": "skip_connect",
        "edge_1_2": "nor_conv_3x3",
        "edge_0_3": "none",
        "edge_1_3": "none",
        "edge_2_3": "avg_pool_3x3",
    }
)
TEXT = f'arch,short,long,seconds,proxy\n{CELL},60,90,100,7\n"{{""a"": ""x""}}",50,95,200,8\n'


def table(folder: Path, text: str = TEXT, packed: bool = False, **settings: Any) -> Table:
    path = folder / "table.csv"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return Table(path=path, **({"metrics": {"accuracy": {10: "short", 40: "long"}}, "cost": "seconds"} | settings))


def trial(architecture: Architecture = ARCHITECTURE, **proposal: Any) -> Trial:
    return Trial(0, Proposal(architecture, **proposal))


def test_the_text_of_the_published_table_is_read() -> None:
    assert parse(CELL) == ARCHITECTURE
    assert parse('{"a": "x"}') == Architecture({"a": "x"})
    with pytest.raises(ValueError, match="is not an architecture"):
        parse("|none~0|+|skip_connect~0|")


@pytest.mark.parametrize("packed", [False, True])
def test_steps_pick_the_column_and_the_share_of_the_cost(tmp_path: Path, packed: bool) -> None:
    evaluator = table(tmp_path, packed=packed, known=("proxy",))
    found = [(steps, evaluator.evaluate(trial(steps=steps))) for steps in (10, 39, 40, None)]
    assert [(steps, report.metrics, report.seconds) for steps, report in found] == [
        (10, {"accuracy": 60.0}, 25.0),
        (39, {"accuracy": 60.0}, 25.0),
        (40, {"accuracy": 90.0}, 100.0),
        (None, {"accuracy": 90.0}, 100.0),
    ]
    assert evaluator.provides == {"steps"}
    assert evaluator.features(ARCHITECTURE) == {"proxy": 7.0}
    assert evaluator.evaluate(trial(Architecture({"a": "x"}))).metrics == {"accuracy": 95.0}
    assert evaluator.identity(Proposal(ARCHITECTURE, steps=39)) == evaluator.identity(Proposal(ARCHITECTURE, steps=10))
    assert evaluator.identity(Proposal(ARCHITECTURE)) != evaluator.identity(Proposal(ARCHITECTURE, steps=10))


def test_one_column_has_no_fidelity(tmp_path: Path) -> None:
    evaluator = table(tmp_path, metrics={"accuracy": "long", "error": "short"}, cost=None)
    assert evaluator.provides == frozenset()
    report = evaluator.evaluate(trial(steps=3))
    assert (report.metrics, report.seconds) == ({"accuracy": 90.0, "error": 60.0}, 0.0)
    assert evaluator.metric_names(("f1",)) == ("accuracy", "error")


def test_a_table_with_gaps_has_no_features_rather_than_an_error(tmp_path: Path) -> None:
    assert table(tmp_path).features(Architecture({"a": "missing"})) == {}
    with pytest.raises(ValueError, match="has no row for"):
        table(tmp_path, known=("proxy",)).features(Architecture({"a": "missing"}))


def test_what_cannot_be_looked_up_is_said(tmp_path: Path) -> None:
    evaluator = table(tmp_path)
    with pytest.raises(ValueError, match=r"no row for .*: search the space"):
        evaluator.evaluate(trial(Architecture({"a": "y"})))
    with pytest.raises(ValueError, match="9 steps were proposed, but the table begins at 10"):
        evaluator.evaluate(trial(steps=9))
    with pytest.raises(ValueError, match="shares weights"):
        evaluator.evaluate(trial(mixture={"a": torch.ones(1)}))
    with pytest.raises(ValueError, match="no column 'wrong': it has arch, short"):
        table(tmp_path, metrics={"accuracy": "wrong"}).evaluate(trial())
    with pytest.raises(ValueError, match=r"line 3, long is 'nan': write a finite number"):
        table(tmp_path, TEXT.replace("95", "nan")).evaluate(trial())


def test_the_file_is_named_as_the_settings_name_it() -> None:
    assert Table(path=Path("data/table.csv")).paths() == ["data/table.csv"]
