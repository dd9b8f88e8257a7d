"""What a structure costs is measured once; who asks again, for the same thing, waits for no export and no clock."""

import errno
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_times import made_up
from sample_classifier import METADATA, OUTPUTS, Classifier, classifier, example
from torch import Tensor

from export import structures
from export.check import ParityError
from export.graph_hash import graph_hash
from export.machine import Machine, Target, this_machine
from export.quiet import NotQuietError
from export.session import MeasureError
from export.structures import Costing, Subject, figures, graph_of, measured
from export.to_onnx import to_onnx

LATENCY = {"latency_ms", "latency_ms_low", "latency_ms_high"}
EXAMPLES = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of the things that cost time was done; times and memory are made up."""
    found: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> None:
        def call(*given: Any, **named: Any) -> Any:
            found[name] += 1
            return function(*given, **named)

        monkeypatch.setattr(structures, name, call)

    counted("to_onnx", structures.to_onnx)
    counted("quantize", structures.quantize)
    counted("measure", made_up)
    counted("peak_memory", lambda path, target: path.stat().st_size)
    return found


def costing(folder: Path, target: Target | None = None, seconds: float = 0.01) -> Costing:
    return Costing(target or Target(), "torchscript", 1e-4, folder, seconds)


def subject(make: Callable[[], torch.nn.Module] = classifier) -> Subject:
    return Subject(make, example(), OUTPUTS, METADATA, EXAMPLES)


def ask(folder: Path, *names: str, key: str = "one", make: Callable[[], torch.nn.Module] = classifier, **of: Any) -> dict[str, float]:
    return figures(key, subject(make), costing(folder, **of), frozenset(names))


def test_what_is_asked_for_is_what_is_answered_and_the_second_time_costs_nothing(tmp_path: Path, calls: Counter[str]) -> None:
    first = ask(tmp_path, "latency_ms", "file_bytes")
    assert set(first) == {*LATENCY, "file_bytes"}
    assert 0 < first["latency_ms_low"] <= first["latency_ms"] <= first["latency_ms_high"]
    to_onnx(classifier(), example(), tmp_path / "model.onnx", outputs=OUTPUTS, metadata=METADATA, exporter="torchscript")
    assert first["file_bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert graph_of("one", costing(tmp_path)) == graph_hash(tmp_path / "model.onnx")
    assert calls == {"to_onnx": 1, "measure": 1}
    assert ask(tmp_path, "latency_ms", "file_bytes") == first
    assert ask(tmp_path, "file_bytes") == {"file_bytes": first["file_bytes"]}
    assert calls == {"to_onnx": 1, "measure": 1}


def test_sizes_need_no_clock_and_nothing_needs_no_file(tmp_path: Path, calls: Counter[str]) -> None:
    assert set(ask(tmp_path, "file_bytes")) == {"file_bytes"}
    assert ask(tmp_path, "accuracy", key="other") == {}
    assert calls == {"to_onnx": 1}


def test_the_quantized_variant_is_a_file_of_its_own(tmp_path: Path, calls: Counter[str]) -> None:
    found = ask(tmp_path, "int8_latency_ms", "int8_file_bytes", "file_bytes")
    assert set(found) == {*(f"int8_{name}" for name in LATENCY), "int8_file_bytes", "file_bytes"}
    assert found["int8_file_bytes"] != found["file_bytes"]
    assert calls == {"to_onnx": 1, "quantize": 1, "measure": 1}
    graphs = {graph_of("one", costing(tmp_path), variant) for variant in ("", "int8_")}
    assert len(graphs) == 2
    assert None not in graphs


def test_one_graph_under_two_names_is_timed_once(tmp_path: Path, calls: Counter[str]) -> None:
    """Weights and what a file says of itself take no time to run."""
    first = ask(tmp_path, "latency_ms")
    assert ask(tmp_path, "latency_ms", key="other", make=lambda: classifier(1)) == first
    assert calls == {"to_onnx": 2, "measure": 1}


def test_another_target_or_machine_measures_again(tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ask(tmp_path, "latency_ms")
    ask(tmp_path, "latency_ms", target=Target(batch_size=2))
    assert calls["measure"] == 2
    other = Machine("another processor", "flags", 2, "Linux x86_64", "1.0")
    monkeypatch.setattr(structures, "this_machine", lambda: other)
    for _ in range(2):
        ask(tmp_path, "latency_ms")
    assert calls["measure"] == 3


def test_memory_is_added_to_what_is_known(tmp_path: Path, calls: Counter[str]) -> None:
    before = ask(tmp_path, "latency_ms")
    for _ in range(2):
        found = ask(tmp_path, "latency_ms", "peak_memory", "file_bytes")
        assert found == {**before, "peak_memory": found["file_bytes"], "file_bytes": found["file_bytes"]}
    assert calls == {"to_onnx": 2, "measure": 1, "peak_memory": 1}


def test_memory_that_nobody_can_tell_is_not_said_to_be_none(tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "peak_memory", lambda path, target: None)
    with pytest.raises(MeasureError, match="peak_memory cannot be measured on this system"):
        ask(tmp_path, "peak_memory")


@pytest.mark.parametrize(
    "damage", [b"", b"[1]", b'{"format": 1, "graph": 1, "file_bytes": 1}', b'{"format": 99, "graph": "a", "file_bytes": 1}']
)
def test_a_damaged_entry_is_made_again(damage: bytes, tmp_path: Path, calls: Counter[str]) -> None:
    before = ask(tmp_path, "file_bytes")
    (entry,) = (tmp_path / "structures").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    assert graph_of("one", costing(tmp_path)) is None
    assert ask(tmp_path, "file_bytes") == before
    assert entry.read_bytes() == whole
    assert calls["to_onnx"] == 2


def test_a_damaged_measurement_is_taken_again(tmp_path: Path, calls: Counter[str]) -> None:
    ask(tmp_path, "latency_ms")
    (entry,) = tmp_path.glob("*.json")
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"measurement": {"latency": "soon"}}))
    assert set(ask(tmp_path, "latency_ms")) == LATENCY
    assert calls["measure"] == 2


def test_a_file_can_have_a_measurement_of_its_own(exported: Callable[..., Path], tmp_path: Path, calls: Counter[str]) -> None:
    path = exported()
    first = measured("digest", lambda: path, costing(tmp_path))
    assert (first.file_bytes, first.machine) == (path.stat().st_size, this_machine())
    assert measured("digest", lambda: pytest.fail("nobody needs the file"), costing(tmp_path)) == first
    assert calls == {"measure": 1}


class Wrong(Classifier):
    """Another function as soon as it is traced."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = super().forward(images)
        return (logits * 2 if torch.jit.is_tracing() else logits), probabilities


def test_a_file_that_computes_something_else_is_not_timed(tmp_path: Path, calls: Counter[str]) -> None:
    with pytest.raises(ParityError, match="does not follow its module"):
        ask(tmp_path, "latency_ms", make=Wrong)
    assert calls == {"to_onnx": 1}
    assert graph_of("one", costing(tmp_path)) is None


def test_a_machine_that_stays_busy_is_said_so_and_nothing_is_kept(
    tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def never(**options: Any) -> Iterator[None]:
        raise NotQuietError("the machine did not become quiet")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(structures, "machine_quiet", never)
        with pytest.raises(NotQuietError):
            ask(tmp_path, "latency_ms")
    assert calls == {"to_onnx": 1}
    assert list(tmp_path.glob("*.json")) == []
    assert set(ask(tmp_path, "latency_ms")) == LATENCY


def test_a_disk_that_refuses_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        @staticmethod
        def write(path: Path, content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(structures, "files", Full)
    with pytest.raises(OSError, match="No space left"):
        ask(tmp_path, "file_bytes")
