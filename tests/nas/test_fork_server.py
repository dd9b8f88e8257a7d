"""Processes are forked from a server that has imported what they need, so that none of them pays for it again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import late_imports
from small_images import digits

from nas.data.dataset import Dataset
from nas.fork_server import imported_late

__all__ = ["digits"]


def test_a_worker_imports_nothing_of_ours_for_its_first_trial(digits: Dataset, tmp_path: Path) -> None:
    code = "import pathlib, sys, late_imports; late_imports.main(*map(pathlib.Path, sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(late_imports.__file__).parent), *sys.path[1:]])}
    command = [sys.executable, "-c", code, str(digits.folder), str(tmp_path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"scratch": [], "proxy": []}


def test_all_that_is_imported_late_exists() -> None:
    """The server passes over what it cannot import, without a word."""
    root = Path(__file__).parents[2]
    assert [name for name in imported_late() if not (root / f"{name.replace('.', '/')}.py").exists()] == []
    assert {"nas.networks.cell", "nas.networks.supernet", "nas.training.cost", "nas.training.loop"} <= set(imported_late())
