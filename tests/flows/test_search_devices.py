"""Devices of workers: what cannot be is said before anything is done."""

import shutil
from pathlib import Path

import pytest
import torch

from flows import settings
from flows.stages import search

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the settings alone: overrides are written to them."""
    shutil.copy(ROOT / settings.FILE, tmp_path)
    return tmp_path


def devices_of(project: Path, *overrides: str) -> list[str]:
    return settings.read(project, list(overrides)).search[0].devices


def test_numbers_are_gpus(project: Path) -> None:
    assert devices_of(project) == []
    assert (
        devices_of(project, "search.devices=[0, 1]") == devices_of(project, "search.devices=['cuda:0', 'cuda:1']") == ["cuda:0", "cuda:1"]
    )
    assert devices_of(project, "search.devices=[cpu, auto]") == ["cpu", "auto"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["devices=[cpu]"], "search.devices names 1, but workers is 2: name one for every worker, or none"),
        (["devices=[gpu, cpu]"], 'search.devices.0 is "gpu": write what belongs there ('),
        (["devices=[-1, cpu]"], 'search.devices.0 is "cuda:-1": write what belongs there ('),
        (["devices=[true, cpu]"], "search.devices.0 is true: should be a valid string"),
        (
            ["devices=[cpu]", "workers=1", "evaluator={name: shared}"],
            "search.devices is ['cpu'], but the evaluator 'shared' runs in one process: leave devices empty and set evaluator.device",
        ),
    ],
)
def test_wrong_devices_are_told_with_their_cure(project: Path, overrides: list[str], problem: str) -> None:
    with pytest.raises(settings.SettingsError) as raised:
        devices_of(project, *(f"search.{override}" for override in overrides))
    assert f"--set search.{overrides[0]}: {problem}" in str(raised.value)


def test_a_gpu_that_is_not_there_stops_the_search_before_any_work(project: Path) -> None:
    threads = torch.get_num_threads()
    try:
        with pytest.raises(ValueError, match=r"device is 'cuda:97' but torch finds \d+ GPUs: set it to 'cpu' or 'auto'"):
            search.run(project, settings.read(project, ["search.devices=[cpu, 97]"]), {})
    finally:
        torch.set_num_threads(threads)
    assert [path.name for path in project.iterdir()] == [settings.FILE]
