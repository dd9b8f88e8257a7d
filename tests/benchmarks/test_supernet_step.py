"""The benchmark of a supernet's step runs in both forms and ends with its figures as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMS = {"script": ["benchmarks/supernet_step.py"], "module": ["-m", "benchmarks.supernet_step"]}


@pytest.mark.parametrize(("mode", "form"), [("gdas", "script"), ("darts-second", "module")])
def test_the_last_line_is_json(mode: str, form: str) -> None:
    sizes = ["--channels", "4", "--cells", "1", "--batch", "4", "--threads", "1", "--steps", "1"]
    run = subprocess.run(
        [sys.executable, *FORMS[form], "--mode", mode, *sizes], check=True, capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["mode"] == mode
    assert (found["channels"], found["cells"], found["batch"], found["threads"]) == (4, 1, 4, 1)
    assert found["cpu_seconds_per_step"] > 0
    assert found["peak_bytes_above_import"] > 0
    assert found["ratio_to_fixed_cell"] > 0
