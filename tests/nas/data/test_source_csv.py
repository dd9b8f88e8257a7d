"""Csv: pixels in columns, paths of image files, and every kind of bad table."""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nas.data.dataset import Dataset, Description
from nas.data.sources.csv import Csv

Prepare = Callable[..., Description]
Refuses = Callable[[Csv, str], None]
SOURCE = Csv(path="tables/data.csv")
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4))


def table(folder: Path, header: list[str], rows: list[list[Any]]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    path = folder / "tables/data.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.getvalue())
    return path


def rows(pixels: np.ndarray = PIXELS, labels: tuple[Any, Any] = ("cat", "dog")) -> list[list[Any]]:
    return [[*image, labels[index % 2]] for index, image in enumerate(pixels.tolist())]


HEADER = ["a", "b", "c", "d", "label"]


@pytest.mark.parametrize("compressed", [False, True])
def test_pixels_in_columns(tmp_path: Path, prepared: Prepare, compressed: bool) -> None:
    path = table(tmp_path, HEADER, rows())
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    description = prepared(SOURCE)
    assert description.input_shape == (2, 2, 1)
    assert description.input_dtype == "uint8"
    assert description.classes == ["cat", "dog"]
    dataset = Dataset.open(tmp_path / "prepared")
    found = {
        bytes(image.reshape(-1)): target
        for split in description.counts
        for image, target in zip(dataset.inputs(split), dataset.targets(split), strict=True)
    }
    assert found == {bytes(image): index % 2 for index, image in enumerate(PIXELS.tolist())}


def test_a_label_column_anywhere_a_shape_a_mark_and_empty_lines(tmp_path: Path, prepared: Prepare) -> None:
    path = table(tmp_path, ["a", " kind ", "b", "c", "d"], [[row[0], row[4], *row[1:4]] for row in rows()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\r\n\r\n"))
    description = prepared(Csv(path="tables/data.csv", label="kind", shape=(1, 2, 2)))
    assert description.input_shape == (1, 2, 2)


def test_fractions_become_float32(tmp_path: Path, prepared: Prepare) -> None:
    description = prepared(SOURCE) if table(tmp_path, HEADER, rows(PIXELS / 256)) else None
    assert description is not None
    assert description.input_dtype == "float32"
    assert Dataset.open(tmp_path / "prepared").inputs("fit").max() < 1


def test_numbers_as_labels(tmp_path: Path, prepared: Prepare) -> None:
    table(tmp_path, HEADER, rows(labels=(10, 9)))
    assert prepared(SOURCE).classes == ["9", "10"]
    table(tmp_path, HEADER, rows(labels=(1, 0)))
    assert prepared(SOURCE.model_copy(update={"classes": ["no", "yes"]}), folder="named").classes == ["no", "yes"]


def test_paths_of_image_files(tmp_path: Path, class_folders: Path, prepared: Prepare) -> None:
    class_folders.rename(tmp_path / "tables")
    names = sorted(path.relative_to(tmp_path / "tables") for path in (tmp_path / "tables").rglob("*.png"))
    table(tmp_path, ["file", "label"], [[name, name.parent] for name in names])
    source = Csv(path="tables/data.csv", image="file", size=(6, 5), channels=1)
    description = prepared(source)
    assert source.paths() == ["tables"]
    assert description.classes == ["cat", "dog"]
    assert description.input_shape == (6, 5, 1)
    dataset = Dataset.open(tmp_path / "prepared")
    assert all((image.min() >= 100) == (target == 1) for image, target in zip(dataset.inputs("fit"), dataset.targets("fit"), strict=True))


def changed(index: int, column: int, value: Any) -> list[list[Any]]:
    result = rows()
    result[index][column] = value
    return result


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        (HEADER, [], "has a header but no rows"),
        (["a", "b", "c", "d", "kind"], rows(), r"has 0 columns named 'label' among \['a', 'b', 'c', 'd', 'kind'\]"),
        (["a", "b", "c", "label", "label"], rows(), "has 2 columns named 'label'"),
        (HEADER[1:], [row[1:] for row in rows()], "has 3 columns beside 'label', which make no square"),
        (["label"], [row[4:] for row in rows()], "has 0 columns beside 'label'"),
        (HEADER, [*rows(), [1, 2, 3]], "row 21 below the header of .* has 3 cells but the header has 5"),
        (HEADER, changed(6, 2, "x"), "row 7 below the header of .* has 'x' in column 'c'"),
        (HEADER, changed(6, 2, ""), "row 7 below the header of .* has '' in column 'c'"),
        (HEADER, changed(6, 2, "nan"), "row 7 below the header of .* has the value nan at row 1, column 0, channel 0"),
        (HEADER, changed(6, 4, ""), "label '' at row 7 below the header of .* is empty"),
        (HEADER, changed(6, 4, "bird"), "class 'bird' has 1 examples"),
        (HEADER, rows(labels=("cat", "cat")), "only one class, 'cat'"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, refuses: Refuses, header: list[str], body: list[list[Any]], message: str) -> None:
    table(tmp_path, header, body)
    refuses(SOURCE, message)


def test_labels_beyond_the_named_classes_are_refused(tmp_path: Path, refuses: Refuses) -> None:
    table(tmp_path, HEADER, changed(3, 4, "bird"))
    refuses(SOURCE.model_copy(update={"classes": ["cat", "dog"]}), "label 'bird' at row 4 .* not one of the classes")
    table(tmp_path, HEADER, rows(labels=(0, 2)))
    refuses(SOURCE.model_copy(update={"classes": ["cat", "dog"]}), r"label 2 at row 2 .* outside 0\.\.1")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", gzip.compress(b"a,label\n" + b"1,x\n2,y\n" * 1000, mtime=0)[:-9], b'a,label\n"1,2']
)
def test_damaged_tables_are_refused(tmp_path: Path, refuses: Refuses, content: bytes) -> None:
    table(tmp_path, HEADER, rows()).write_bytes(content)
    refuses(SOURCE, "data.csv is (empty|damaged)")


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.png", "gone.png cannot be decoded"), ("../a.png", "not inside"), ("/a.png", "not inside"), ("", "not inside")],
)
def test_bad_image_paths_are_refused(tmp_path: Path, refuses: Refuses, name: str, message: str) -> None:
    table(tmp_path, ["file", "label"], [[name, index % 2] for index in range(8)])
    refuses(Csv(path="tables/data.csv", image="file"), message)


@pytest.mark.parametrize("settings", [{"shape": [2, 2, 1], "image": "file"}, {"image": "label"}, {"shape": [2]}, {"channels": 2}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Csv.model_validate({"path": "data.csv", **settings})


def test_a_shape_that_does_not_fit_the_columns(tmp_path: Path, refuses: Refuses) -> None:
    table(tmp_path, HEADER, rows())
    refuses(Csv(path="tables/data.csv", shape=(3, 1)), r"has 4 columns beside 'label' but shape \(3, 1\) needs 3")
