"""benchmark.py measures the file that ships, on the machine where it runs, and says which both are."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export import benchmark
from export.bundle import manifest_of, write_bundle
from export.machine import this_machine

Exported = Callable[..., Path]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(folder, model=exported(), manifest=manifest_of(exported()), examples=IMAGES)
    return folder


def run(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script as its user runs it: in its own process, in another folder, isolated from this repository."""
    command = [sys.executable, "-I", str(bundle / "benchmark.py"), *arguments]
    return subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True, timeout=60)


def test_every_setting_is_measured_on_the_file_that_ships(bundle: Path) -> None:
    done = run(bundle, "--batch-sizes", "1", "7", "--threads", "1", "2", "--seconds", "0.02")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 4
    device = json.loads((bundle.parent / "device.json").read_text())
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert device["model"] == {"sha256": manifest["sha256"], "bytes": manifest["bytes"]}
    assert device["machine"] == dataclasses.asdict(this_machine())
    assert (device["format"], device["provider"], device["measured_at"][-6:]) == (1, "CPUExecutionProvider", "+00:00")
    found = [(one["batch_size"], one["threads"]) for one in device["measurements"]]
    assert found == [(1, 1), (7, 1), (1, 2), (7, 2)]
    for one in device["measurements"]:
        assert 0 < one["min_ms"] <= one["p50_ms"] <= one["p90_ms"] <= one["p99_ms"]
        assert one["runs"] >= benchmark.FEWEST
        assert one["warm_up_runs"] >= 10
        assert one["examples_per_second"] > 0
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle", "device.json"]


def test_the_figures_are_those_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Port:
        name, type, shape = "images", "tensor(uint8)", ["batch", 2]

    class Session:
        """Takes 1 ms, and every tenth run 11 ms, on the clock below."""

        now, runs, shapes = 0, 0, set[tuple[int, ...]]()

        def get_inputs(self) -> list[type[Port]]:
            return [Port]

        def run(self, names: None, feed: dict[str, np.ndarray]) -> None:
            self.runs += 1
            self.shapes.add(feed["images"].shape)
            self.now += 11_000_000 if self.runs % 10 == 0 else 1_000_000

    session = Session()
    monkeypatch.setattr(benchmark.time, "perf_counter_ns", lambda: session.now)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: session.now / 1e9)
    [found] = benchmark._measure([session], 4, [{}], 2.0)
    assert session.shapes == {(4, 2)}
    assert found["runs"] == pytest.approx(1000, abs=benchmark.TURNS)  # of 2 ms on average
    assert (found["min_ms"], found["p50_ms"], found["p99_ms"]) == (1.0, 1.0, 11.0)
    assert (found["p50_low_ms"], found["p50_high_ms"]) == (1.0, 1.0)
    assert found["examples_per_second"] == pytest.approx(2000, rel=0.01)
    assert found["runs"] + found["warm_up_runs"] == session.runs


def test_models_take_turns_so_that_a_machine_that_slows_down_slows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    class Port:
        name, type, shape = "images", "tensor(uint8)", ["batch", 2]

    now, order = [0], list[str]()

    class Session:
        """Takes longer with every run of any session."""

        def __init__(self, name: str) -> None:
            self.name = name

        def get_inputs(self) -> list[type[Port]]:
            return [Port]

        def run(self, names: None, feed: dict[str, np.ndarray]) -> None:
            order.append(self.name)
            now[0] += 1_000_000 + 2_000 * len(order)

    monkeypatch.setattr(benchmark.time, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0] / 1e9)
    one, other = benchmark._measure([Session("a"), Session("b")], 1, [{}, {}], 0)  # type: ignore[list-item]
    each = benchmark.FEWEST // benchmark.TURNS
    turns = order[-2 * each * benchmark.TURNS :][::each]
    assert turns == ["b", "a", "a", "b"] * (benchmark.TURNS // 2)
    assert one["runs"] == other["runs"] == benchmark.FEWEST
    assert one["p50_ms"] == pytest.approx(other["p50_ms"], rel=0.01)
    assert one["p50_high_ms"] > 1.05 * one["p50_low_ms"]
    assert one["p50_low_ms"] < one["p50_ms"] < one["p50_high_ms"]


def test_several_models_make_one_file(bundle: Path) -> None:
    folder = bundle.parent / "models"
    folder.mkdir()
    for number in (10, 9, 1):  # which a plain sort would put in another order
        (folder / f"trial-{number}.onnx").write_bytes((bundle / "model.onnx").read_bytes())
    once = ("--seconds", "0.001", "--batch-sizes", "1", "2")
    done = run(bundle, "--model", str(folder), "--model", str(bundle / "model.onnx"), str(folder / "trial-9.onnx"), *once)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 8)
    device = json.loads((bundle.parent / "device.json").read_text())
    assert (device["format"], sorted(device)) == (2, ["format", "machine", "measured_at", "models", "provider"])
    assert [model["file"] for model in device["models"]] == ["trial-1.onnx", "trial-9.onnx", "trial-10.onnx", "model.onnx"]
    for model in device["models"]:
        assert model["sha256"] == json.loads((bundle / "manifest.json").read_text())["sha256"]
        assert [(one["batch_size"], one["threads"]) for one in model["measurements"]] == [(1, 1), (2, 1)]


def test_a_folder_of_models_beside_the_script_is_timed_where_there_is_no_model(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = bundle.parent / "benchmark.py"
    monkeypatch.setattr(benchmark, "__file__", str(script))
    assert benchmark._models(None) == [bundle.parent / "model.onnx"]
    (bundle.parent / "models").mkdir()
    with pytest.raises(benchmark.BenchmarkError, match="there is no ONNX file in"):
        benchmark._models(None)
    (bundle.parent / "models" / "a.onnx").touch()
    assert benchmark._models(None) == [bundle.parent / "models" / "a.onnx"]
    (bundle.parent / "model.onnx").touch()
    assert benchmark._models(None) == [bundle.parent / "model.onnx"]


def test_real_examples_are_repeated_to_the_batch_and_others_are_random(exported: Exported) -> None:
    [port] = benchmark._session(exported().read_bytes(), 1, "CPUExecutionProvider").get_inputs()
    np.testing.assert_array_equal(benchmark._batch(port, 7, {"images": IMAGES}), IMAGES[[0, 1, 2, 3, 4, 0, 1]])
    made = benchmark._batch(port, 3, {})
    assert (made.shape, made.dtype) == ((3, 8, 8, 3), np.uint8)
    assert len(np.unique(made)) > 100
    floats = benchmark._session(exported(dtype=torch.float32).read_bytes(), 1, "CPUExecutionProvider")
    assert benchmark._batch(floats.get_inputs()[0], 3, {}).dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch-sizes", "1", "0"], "must be at least 1"),
        (["--threads", "-1"], "must be at least 1"),
        (["--seconds", "-1"], "must be at least 1 and seconds at least 0"),
        (["--seconds", "nan"], "seconds at least 0"),
        (["--provider", "Abacus"], "has no Abacus, only .*CPUExecutionProvider"),
        (["--model", "none.onnx"], r"there is no model at none\.onnx"),
        (["--model", "text.onnx"], "cannot be loaded"),
        (["--output", "none/device.json"], "cannot be written"),
    ],
)
def test_each_error_names_its_cause(
    bundle: Path, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bundle.parent)
    Path("text.onnx").write_text("no model")
    given = {"--model": str(bundle / "model.onnx"), "--seconds": "0"}
    before = [word for name, value in given.items() if name not in arguments for word in (name, value)]
    assert benchmark.main([*before, *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.search(sentence, output.err)
    assert len(output.err.splitlines()) == 1
    assert not Path("device.json").exists()


def test_another_file_than_the_measured_one_is_refused(bundle: Path) -> None:
    with (bundle / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    done = run(bundle)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not the file in manifest.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_machine_is_named_as_the_search_names_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for text in ("model name\t: Chip 9\nflags\t\t: b a a\n", "Processor : ARM\nFeatures : neon\n", ""):
        cpuinfo.write_text(text)
        assert benchmark.machine(cpuinfo) == dataclasses.asdict(this_machine(cpuinfo))
    assert benchmark.machine(tmp_path / "none") == dataclasses.asdict(this_machine(tmp_path / "none"))


def test_needs_only_what_it_says() -> None:
    tree = ast.parse(Path(benchmark.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy", "onnxruntime"}
