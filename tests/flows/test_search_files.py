"""The table that an evaluator reads is an input of the search: of its run, of DVC's stage, and checked before any work."""

import json
from pathlib import Path

import pytest
from recorded_project import SEARCH, inside, make_recorded_project, nasflow
from ruamel.yaml import YAML
from small_images import one_thread

__all__ = ["one_thread"]

ARCHITECTURE = json.dumps({"stage_0_width": "4"}).replace('"', '""')
TABLE = {"name": "table", "path": "table.csv"}


def test_another_table_is_another_run_and_one_that_dvc_does_not_know_is_refused(tmp_path: Path) -> None:
    search = {**SEARCH, "strategy": {"name": "random"}, "evaluator": TABLE}
    make_recorded_project(tmp_path, search=search)
    with inside(tmp_path):
        assert nasflow("stage", "prepare").code == 0
        answer = nasflow("stage", "search")
        assert answer.code == 1
        assert "dvc.yaml does not name table.csv, so a changed file would go unseen: `nasflow check` puts it there" in answer.errors
        assert list((tmp_path / ".nasflow").glob("search-*")) == []
        assert "does not exist: put the data there" in nasflow("check").errors
        for accuracy in (0.25, 0.75):
            (tmp_path / "table.csv").write_text(f'arch,accuracy\n"{ARCHITECTURE}",{accuracy}\n')
            assert nasflow("check").code == 0
            assert "none of" in nasflow("stage", "search").errors  # no row fits the space
        assert len(list((tmp_path / ".nasflow").glob("search-*"))) == 2


@pytest.mark.parametrize("stage", ["prepare", "search"])
def test_every_stage_with_files_of_the_user_says_which_they_are(stage: str) -> None:
    document = YAML(typ="safe").load((Path(__file__).parents[2] / "dvc.yaml").read_text())
    assert document["stages"][stage]["meta"] == {"watched": []}
