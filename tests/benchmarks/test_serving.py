"""The benchmark of serving runs and ends with its figures as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = ("bare_per_second", "bare_together_per_second", "served_per_second", "ratio", "ratio_together", "client_microseconds")


def test_the_last_line_is_json() -> None:
    command = [sys.executable, "benchmarks/serving.py", "--repeats", "2", "--seconds", "0.05", "--clients", "4", "--rows", "2"]
    command += ["--exporter", "torchscript", "--processes", "2"]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=240)
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["repeats"], found["clients"], found["rows"], found["threads"], found["processes"]) == (2, 4, 2, 1, 2)
    assert min(found[name] for name in FIGURES) > 0
    assert found["images_per_second"] == pytest.approx(2 * found["served_per_second"], abs=0.2)
