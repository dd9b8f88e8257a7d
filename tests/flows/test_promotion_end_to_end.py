"""`nasflow run --promote-if-better` in a whole small project: what is released is what was exported, and still verifies itself."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from at_once import work_here
from made_up_times import made_up
from recorded_project import inside, make_recorded_project, nasflow
from small_images import one_thread

from export import files, structures
from flows import launch

__all__ = ["one_thread"]
STAGES = ("prepare", "search", "train", "export")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stages run one after the other in this process, without Prefect and DVC."""

    def run(root: Path, stages: Sequence[str] | None, force: bool = False, check: Sequence[str] = ()) -> int:
        return max(nasflow("stage", stage).code for stage in stages or STAGES)

    monkeypatch.setattr(launch, "run", run)
    work_here(monkeypatch)
    monkeypatch.setattr(structures, "measure", made_up)
    make_recorded_project(tmp_path)
    yaml = tmp_path / "dvc.yaml"
    yaml.write_text(yaml.read_text().replace("results/export/lineage.json", "results/export/other.json"))  # dvc.lock is DVC's to write
    return tmp_path


def test_what_is_exported_is_released_whole(project: Path) -> None:
    with inside(project):
        first = nasflow("run", "--promote-if-better")
        assert first.code == 0, first.errors
        digest = files.digest(project / "results/export/model.onnx")
        assert first.output.splitlines()[-1] == f"nasflow: model {digest[:16]} is released: nothing was released before"
        again = nasflow("promote")
        assert again.output == f"nasflow: model {digest[:16]} stays released: it is the model that was exported\n"
        said = json.loads(nasflow("released", "--json").output)
    assert (said["released"]["sha256"], said["others"]) == (digest, [])
    winner = json.loads((project / "results/train/architecture.json").read_text())
    assert {name: said["released"]["origin"][name] for name in ("search", "trial")} == {
        "search": winner["search"],
        "trial": str(winner["trial"]),
    }
    verified = subprocess.run(
        [sys.executable, project / "released/current/verify.py"], capture_output=True, text=True, check=False, cwd=project
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
