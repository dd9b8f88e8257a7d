"""The benchmark of verdicts runs and ends with its figures as JSON, and leaves no process behind."""

import json
import subprocess
import sys
from pathlib import Path

import benchmark_files
import onnx
import psutil

ROOT = Path(__file__).parents[2]


def test_the_last_line_is_json() -> None:
    command = [sys.executable, "benchmarks/latency_verdicts.py", "--pairs", "2", "--seconds", "0.02"]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=120)
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["pairs"], found["threads"], found["busy"]) == (2, 1, 1)
    assert {found["same_indistinguishable"], found["more_work_told_apart"]} <= {0.0, 0.5, 1.0}
    assert len(run.stdout.splitlines()) == 3


def test_more_work_is_one_and_a_half_times_the_convolutions() -> None:
    module = benchmark_files.load("latency_verdicts")
    for work in module.WORKS:
        less, more = (onnx.load_from_string(module.network(work, layers)).graph.node for layers in (work.layers, work.layers * 3 // 2))
        assert 2 * len(more) == 3 * len(less) == 6 * work.layers


def test_busy_processes_end() -> None:
    module, before = benchmark_files.load("latency_verdicts"), set(psutil.Process().children())
    with module.busy_processes(2):
        children = set(psutil.Process().children()) - before
        assert len(children) == 2
    assert not any(child.is_running() for child in children)
