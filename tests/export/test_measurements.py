import dataclasses
import json
from pathlib import Path

import pytest

from export.interval import Interval
from export.machine import Machine, Target, this_machine
from export.measure import Measurement
from export.measurements import Measurements

HERE = Machine("processor", "flags", 2, "Linux x86_64", "1.0")
FOUND = Measurement(
    latency=Interval(1.0, 1.1, 1.2, 0.96),
    clock="core",
    p50=1.3,
    p90=2.0,
    p99=9.0,
    contention=1.2,
    sentinel=0.4,
    ratio=Interval(2.5, 2.7, 3.0, 0.96),
    steady=True,
    blocks=12,
    runs=60,
    file_bytes=1000,
    target=Target(),
    machine=HERE,
)


def entry(folder: Path) -> Path:
    (path,) = folder.glob("*.json")
    return path


@pytest.mark.parametrize(
    "found", [FOUND, dataclasses.replace(FOUND, peak_bytes=5, target=Target(8, 2)), dataclasses.replace(FOUND, steady=False)]
)
def test_what_is_kept_comes_back(tmp_path: Path, found: Measurement) -> None:
    kept = Measurements(tmp_path / "new" / "folder")
    assert kept.get("a", found.machine, found.target) is None
    kept.keep("a", found)
    assert kept.get("a", found.machine, found.target) == found
    assert len(list(kept.folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("structure", "machine", "target"),
    [
        ("b", HERE, Target()),
        *[
            ("a", dataclasses.replace(HERE, **change), Target())
            for change in ({"flags": "x"}, {"cores": 4}, {"onnxruntime": "1.1"}, {"processor": "x"})
        ],
        *[("a", HERE, target) for target in (Target(2), Target(1, 2), Target(provider="x"))],
    ],
)
def test_another_structure_machine_or_target_is_not_known(tmp_path: Path, structure: str, machine: Machine, target: Target) -> None:
    Measurements(tmp_path).keep("a", FOUND)
    assert Measurements(tmp_path).get(structure, machine, target) is None


def damage(content: str) -> list[bytes]:
    whole = json.loads(content)
    wrong = [
        whole | {"format": 99},
        whole | {"structure": "b"},
        whole | {"measurement": whole["measurement"] | {"p50": -1.0}},
        whole | {"measurement": whole["measurement"] | {"p50": "1.3"}},
        whole | {"measurement": whole["measurement"] | {"target": {"batch_size": 2, "threads": 1, "provider": "CPUExecutionProvider"}}},
        {key: value for key, value in whole.items() if key != "measurement"},
        [],
        None,
    ]
    return [b"", b"\xff\x00", b"[" * 100_000, content[: len(content) // 2].encode(), *(json.dumps(value).encode() for value in wrong)]


def test_damaged_entries_are_not_believed_and_replaced(tmp_path: Path) -> None:
    kept = Measurements(tmp_path)
    kept.keep("a", FOUND)
    for content in damage(entry(tmp_path).read_text()):
        entry(tmp_path).write_bytes(content)
        assert kept.get("a", HERE, Target()) is None, content[:200]
        assert kept.fetch("a", HERE, Target(), lambda: FOUND) == FOUND
        assert kept.get("a", HERE, Target()) == FOUND


def test_measured_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def take() -> Measurement:
        calls.append(1)
        return FOUND

    assert [Measurements(tmp_path).fetch("a", HERE, Target(), take) for _ in range(3)] == [FOUND] * 3
    assert len(calls) == 1


def test_a_doubtful_measurement_is_repeated_once_and_the_better_one_kept(tmp_path: Path) -> None:
    doubtful = dataclasses.replace(FOUND, steady=False)
    wide = dataclasses.replace(doubtful, latency=Interval(0.5, 1.1, 2.0, 0.96))
    for structure, (taken, better) in enumerate([((doubtful, FOUND), 1), ((doubtful, wide), 0), ((wide, doubtful), 1), ((FOUND,), 0)]):
        answers = iter(taken)
        for _ in range(2):
            assert Measurements(tmp_path).fetch(str(structure), HERE, Target(), lambda answers=answers: next(answers)) == taken[better]
        assert list(answers) == []


CPUINFO = {
    "model name\t: Model X\nflags\t\t: sse avx\n\nmodel name\t: Model X\nflags\t\t: sse avx\n": "Model X",
    "processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd0c\n": None,
    "": None,
}


@pytest.mark.parametrize("text", CPUINFO)
def test_this_machine_is_told_from_what_the_system_says(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    found = this_machine(path)
    assert found.processor == (CPUINFO[text] or found.processor)
    assert (found.flags == "unknown") == (text == "")
    assert found.cores >= 1
    assert all((found.processor, found.system, found.onnxruntime))


def test_the_order_of_flags_is_nothing_and_each_of_them_counts(tmp_path: Path) -> None:
    flags = []
    for number, text in enumerate(["flags : avx sse\n", "flags : sse avx\n", "flags : sse avx avx512f\n"]):
        (tmp_path / str(number)).write_text(text)
        flags.append(this_machine(tmp_path / str(number)).flags)
    assert flags[0] == flags[1] != flags[2]
    assert this_machine(tmp_path / "absent").flags == "unknown"
