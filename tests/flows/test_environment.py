"""What the last bits depend on is recorded, and a difference is said in a few words."""

import json
from pathlib import Path

import pytest
import torch

from flows import environment
from flows.environment import differences, present


def test_the_same_environment_is_the_same_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    found = present()
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == torch.__version__
    assert found["instructions"][0] == torch.backends.cpu.get_cpu_capability()
    assert differences(found, present()) == []
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert differences(found, present()) == ["variables ATEN_CPU_CAPABILITY=avx2 (began under none)"]


def test_differences_name_what_and_how() -> None:
    was = {"torch": "2.13.0", "threads": 1, "instructions": ["AVX2", "avx512f"], "device": "cpu", "gone": 1}
    now = {"torch": "2.14.0", "threads": 2, "instructions": ["AVX2", "amx_int8"], "device": "cuda", "gpu": "H200"}
    assert set(differences(was, now)) == {
        "torch 2.14.0 (began under 2.13.0)",
        "threads 2 (began under 1)",
        "instructions with amx_int8 and without avx512f",
        "device cuda (began under cpu)",
        "gpu H200 (began under none)",
        "gone none (began under 1)",
    }


def test_a_system_that_does_not_tell_its_processor_is_recorded_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_PROCESSOR", tmp_path / "nothing")
    assert environment.present()["threads"] == torch.get_num_threads()
