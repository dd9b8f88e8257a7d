"""`nasflow stage prepare` with every kind of bad input: one sentence that names it, and nothing published or left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stage_project import StageProject, make_stage_project

Break = Callable[[Path], dict[str, Any]]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageProject:
    """A project in the current folder, with folders for data."""
    monkeypatch.chdir(tmp_path)
    return make_stage_project(tmp_path)


def arrays(folder: Path, **changed: Any) -> dict[str, Any]:
    """An archive of 16 float images of two classes, with some arrays changed."""
    usual = {"x": np.random.default_rng(0).uniform(0, 1, (16, 4, 4, 1)).astype(np.float32), "y": np.arange(16) % 2}
    np.savez(folder / "data.npz", **{**usual, **changed})
    return {"name": "npz", "path": "data.npz"}


def pictures(folder: Path, counts: dict[str, int]) -> dict[str, Any]:
    """A folder of PNG files, so many per class."""
    for name, count in counts.items():
        (folder / "pictures" / name).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (5, 5), 40 * index).save(folder / "pictures" / name / f"{index}.png")
    return {"name": "images", "path": "pictures"}


def undecodable(folder: Path) -> dict[str, Any]:
    source = pictures(folder, {"cat": 5, "dog": 5})
    (folder / "pictures" / "dog" / "3.png").write_text("no image")
    return source


def with_value(value: float) -> Break:
    def broken(folder: Path) -> dict[str, Any]:
        pixels = np.zeros((16, 4, 4, 1), dtype=np.float32)
        pixels[7, 2, 1, 0] = value
        return arrays(folder, x=pixels)

    return broken


def empty_file(name: str, source: str) -> Break:
    def broken(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(b"")
        return {"name": source, "path": name}

    return broken


def empty_folder(folder: Path) -> dict[str, Any]:
    (folder / "pictures").mkdir()
    return {"name": "images", "path": "pictures"}


BAD: dict[str, tuple[Break, str]] = {
    "missing archive": (lambda folder: {"name": "npz", "path": "none.npz"}, "none.npz"),
    "missing folder": (lambda folder: {"name": "images", "path": "none"}, "none"),
    "missing table": (lambda folder: {"name": "csv", "path": "none.csv"}, "none.csv"),
    "undecodable image": (undecodable, "dog/3.png cannot be decoded"),
    "one class of images": (lambda folder: pictures(folder, {"cat": 8}), "only one class, 'cat'"),
    "one class in arrays": (lambda folder: arrays(folder, y=np.zeros(16, dtype=int)), "only one class"),
    "few images of a class": (lambda folder: pictures(folder, {"cat": 8, "dog": 3}), "class 'dog' has 3 examples but needs at least 4"),
    "few labels of a class": (lambda folder: arrays(folder, y=np.arange(16) >= 13), "has 3 examples but needs at least 4"),
    "not a number": (with_value(float("nan")), "x[7] in"),
    "infinite": (with_value(float("inf")), "has the value inf"),
    "labels of another length": (lambda folder: arrays(folder, y=np.arange(15) % 2), "16 examples but 'y' holds 15 labels"),
    "label beyond the classes": (
        lambda folder: {**arrays(folder, y=np.arange(16) % 3), "classes": ["a", "b"]},
        "label 2 at y[2] in",
    ),
    "negative label": (lambda folder: arrays(folder, y=np.arange(16) % 2 - 1), "label -1 at y[0] in"),
    "empty archive": (empty_file("data.npz", "npz"), "data.npz is empty"),
    "empty table": (empty_file("data.csv", "csv"), "data.csv is empty"),
    "empty folder": (empty_folder, "holds no class folders"),
    "no images": (lambda folder: arrays(folder, x=np.zeros((0, 4, 4, 1)), y=np.zeros(0, dtype=int)), "is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_sentence_and_leaves_nothing(small: StageProject, name: str) -> None:
    make, expected = BAD[name]
    small.choose(make(small.root))
    before = sorted(path.name for path in small.root.iterdir())
    answer = small.stage("prepare")
    assert answer.code == 1
    assert answer.errors.startswith("nasflow: ")
    assert len(answer.errors.splitlines()) == 1
    assert expected in answer.errors
    assert not (small.root / "results").exists()
    assert small.left_behind() == []
    assert set(before) >= {path.name for path in small.root.iterdir()} - {".nasflow"}


def test_a_bad_input_leaves_earlier_results_as_they_were(small: StageProject) -> None:
    small.choose(arrays(small.root))
    assert small.stage("prepare").code == 0
    before = small.content("prepare")
    assert "results/prepare/dataset.json" in before
    small.choose(with_value(float("nan"))(small.root))
    assert small.stage("prepare").code == 1
    assert small.content("prepare") == before
    assert small.left_behind() == []
