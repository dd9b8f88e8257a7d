"""Files of devices are strangers' files: both formats are read, and every fault is one sentence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows import devices
from flows.devices import Setting
from nas.rerank import Latency

DIGESTS = ("a" * 64, "b" * 64)
TIMING = {"batch_size": 1, "threads": 1, "p50_ms": 2.0, "p50_low_ms": 1.5, "p50_high_ms": 2.5, "p99_ms": 9.0, "runs": 30}
HEAD: dict[str, Any] = {"machine": {"processor": "Chip 9", "cores": 4}, "provider": "CPUExecutionProvider", "measured_at": "today"}
ONE = {**HEAD, "format": 1, "model": {"sha256": DIGESTS[0], "bytes": 5}, "measurements": [TIMING]}
SEVERAL = {
    **HEAD,
    "format": 2,
    "models": [{"file": f"{digest[0]}.onnx", "sha256": digest, "bytes": 5, "measurements": [TIMING]} for digest in DIGESTS],
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "device.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_both_formats_are_read(tmp_path: Path) -> None:
    one, several = (devices.read(written(tmp_path, content)) for content in (ONE, SEVERAL))
    assert (one.name, one.processor, one.provider) == ("device.json", "Chip 9", "CPUExecutionProvider")
    assert (list(one.timings), list(several.timings)) == ([DIGESTS[0]], list(DIGESTS))
    assert devices.latencies(several, Setting(1, 1)) == dict.fromkeys(DIGESTS, Latency(1.5, 2.0, 2.5))
    assert devices.latencies(several, Setting(1, 2)) == {}


def test_an_older_file_has_no_interval(tmp_path: Path) -> None:
    old = {**ONE, "measurements": [{name: TIMING[name] for name in ("batch_size", "threads", "p50_ms")}]}
    assert devices.latencies(devices.read(written(tmp_path, old)), Setting(1, 1)) == {DIGESTS[0]: Latency(2.0, 2.0, 2.0)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("no json", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ([], "the file: "),
        ({**ONE, "format": 3}, "the file: its format is 3, which is none of 1, 2"),
        ({"sha256": DIGESTS[0]}, "the file: it does not say its format"),
        ({**ONE, "model": {"sha256": "a"}}, "model.sha256: 'a' has another form than belongs there"),
        ({**ONE, "measurements": []}, "measurements"),
        ({**ONE, "machine": {}}, "machine.processor: it is missing"),
        ({**ONE, "machine": {"processor": "Chip\x1b[2J"}}, "processor"),
        ({**ONE, "measurements": [{**TIMING, "p50_ms": -1.0}]}, "p50_ms"),
        ({**ONE, "measurements": [{**TIMING, "p50_ms": float("nan")}]}, "p50_ms"),
        ({**ONE, "measurements": [{**TIMING, "p50_ms": "2"}]}, "p50_ms"),
        (
            {**ONE, "measurements": [{**TIMING, "p50_high_ms": 1.0}]},
            "(measurements: the interval p50_low_ms to p50_high_ms must",
        ),
    ],
)
def test_each_fault_is_one_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        devices.read(written(tmp_path, content))
    assert len(str(caught.value).splitlines()) == 1
    assert "device.json is not what benchmark.py writes" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist"):
        devices.read(tmp_path / "none.json")


def test_the_setting_is_the_one_asked_for_or_the_targets_or_the_only_one(tmp_path: Path) -> None:
    both = devices.read(written(tmp_path, {**ONE, "measurements": [TIMING, {**TIMING, "threads": 2}]}))
    only = devices.read(written(tmp_path, {**ONE, "measurements": [{**TIMING, "threads": 4}]}))
    assert devices.setting_of(both, Setting(1, 2), Setting(1, 1)) == Setting(1, 2)
    assert devices.setting_of(both, None, Setting(1, 2)) == Setting(1, 2)
    assert devices.setting_of(only, None, Setting(1, 1)) == Setting(1, 4)
    known = "has times of batch 1, threads 1; batch 1, threads 2, not of batch 8, threads 1"
    for asked, target in ((Setting(8, 1), Setting(1, 1)), (None, Setting(8, 1))):
        with pytest.raises(ValueError, match=known):
            devices.setting_of(both, asked, target)
    with pytest.raises(ValueError, match="not of batch 1, threads 1"):
        devices.setting_of(only, Setting(1, 1), Setting(1, 1))
