"""The Makefile installs once."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_second_call_installs_nothing(tmp_path: Path) -> None:
    def planned(target: str) -> str:
        command = ["make", "-n", target, f"VENV={tmp_path}", "TORCH=cpu"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert " pip " in planned("run")
    for stamp in (".torch-cpu", ".installed-cpu", ".installed-test-cpu"):
        (tmp_path / stamp).touch()
    for target in ("run", "test", "check", "show"):
        assert "pip" not in planned(target)
    assert f"{tmp_path}/bin/nasflow run" in planned("run")
