"""Npz: names, types, labels, and every kind of bad archive."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nas.data.dataset import Dataset, Description
from nas.data.sources.npz import Npz

X = np.random.default_rng(0).integers(0, 256, (20, 6, 5)).astype(np.uint8)
Y = np.arange(20) % 2
Prepare = Callable[..., Description]
Refuses = Callable[[Npz, str], None]


def save(folder: Path, **arrays: Any) -> Npz:
    np.savez(folder / "data.npz", **arrays)
    return Npz(path="data.npz")


def test_grey_images_and_integers(tmp_path: Path, prepared: Prepare) -> None:
    description = prepared(save(tmp_path, x=X, y=Y))
    assert description.input_shape == (6, 5, 1)
    assert description.classes == ["0", "1"]
    assert description.source["name"] == "npz"
    assert sum(description.counts.values()) == 20


def test_the_usual_names_and_a_test_set_kept_as_it_is(tmp_path: Path, prepared: Prepare) -> None:
    prepared(save(tmp_path, x_train=X, y_train=Y, x_test=X[:4] ^ 1, y_test=Y[:4]))
    dataset = Dataset.open(tmp_path / "prepared")
    assert np.array_equal(dataset.inputs("test")[..., 0], X[:4] ^ 1)
    assert np.array_equal(dataset.targets("test"), Y[:4])
    assert sum(dataset.description.counts[split] for split in ("fit", "select", "confirm")) == 20


def test_names_of_ones_own_and_no_test_set(tmp_path: Path, prepared: Prepare) -> None:
    save(tmp_path, pictures=X, kinds=Y, x_test=X, y_test=Y)
    description = prepared(Npz(path="data.npz", x="pictures", y="kinds", x_test=None, y_test=None))
    assert sum(description.counts.values()) == 20


def test_words_are_sorted_and_may_be_named(tmp_path: Path, prepared: Prepare) -> None:
    source = save(tmp_path, x=X, y=np.array(["dog", "cat"])[Y])
    assert prepared(source).classes == ["cat", "dog"]
    named = prepared(source.model_copy(update={"classes": ["dog", "cat"]}), folder="named")
    assert named.classes == ["dog", "cat"]
    assert Dataset.open(tmp_path / "named").targets("fit").tolist() != Dataset.open(tmp_path / "prepared").targets("fit").tolist()
    assert prepared(save(tmp_path, x=X, y=np.array([b"dog", b"cat"])[Y]), folder="bytes").classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("stored", "kept"), [("bool", "uint8"), ("int64", "uint8"), ("uint16", "uint8"), ("float16", "float32"), ("float64", "float32")]
)
def test_pixel_types(tmp_path: Path, prepared: Prepare, stored: str, kept: str) -> None:
    description = prepared(save(tmp_path, x=(X % 2).astype(stored), y=Y[:, np.newaxis]))
    assert description.input_dtype == kept
    assert Dataset.open(tmp_path / "prepared").inputs("fit").max() == 1


def test_a_test_set_of_another_type_makes_both_floating_point(tmp_path: Path, prepared: Prepare) -> None:
    description = prepared(save(tmp_path, x=X, y=Y, x_test=X[:4] / 255, y_test=Y[:4]))
    assert description.input_dtype == "float32"
    assert Dataset.open(tmp_path / "prepared").inputs("test").max() <= 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": Y[:19]}, "'x' holds 20 examples but 'y' holds 19 labels"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y[:3]}, "'x_test' holds 20 examples but 'y_test' holds 3"),
        ({"x": X, "y": Y, "x_test": X}, "holds no array 'y_test', only"),
        ({"x": X, "y": Y, "x_test": X[:, 1:], "y_test": Y}, r"'x_test' of shape \(5, 5, 1\)"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y.astype(str)}, "'y_test' <U21"),
        ({"pixels": X, "y": Y}, r"holds no array 'x', only \['pixels', 'y'\]"),
        ({"x": X, "y": Y * 0}, "only one class, '0'"),
        ({"x": X, "y": np.repeat([0, 1], [17, 3])}, "class '1' has 3 examples"),
        ({"x": X, "y": Y - 1}, r"label -1 at y\[0\]"),
        ({"x": X, "y": Y * 2}, "label 1 does not occur although label 2 does"),
        ({"x": X, "y": Y * 10**12}, r"label 1000000000000 at y\[1\]"),
        ({"x": X, "y": Y / 2}, "labels must be integers or words"),
        ({"x": X, "y": np.eye(2)[Y]}, r"shape \(20, 2\) but labels must be N or N x 1"),
        ({"x": X, "y": np.array(["a", " "])[Y]}, r"label ' ' at y\[1\] in .* is empty"),
        ({"x": X, "y": np.array([b"a", b"\xff"])[Y]}, "not UTF-8"),
        ({"x": X[:0], "y": Y[:0]}, "is empty with shape"),
        ({"x": X.reshape(20, 30), "y": Y}, r"shape \(20, 30\) but must be N x H x W"),
        ({"x": X[..., np.newaxis].repeat(2, axis=3), "y": Y}, "C = 1, 3 or 4"),
        ({"x": X.astype(int) + 1, "y": Y}, "within 1..256 but bytes"),
        ({"x": X.astype(complex), "y": Y}, "holds complex128"),
        ({"x": X.astype(object), "y": Y}, "pickled objects"),
        ({"x": X, "y": np.array([{}] * 20)}, "pickled objects"),
        ({"x": np.where(X[7, 2, 3] == X, np.nan, X), "y": Y}, r"x\[\d+\] in .* has the value nan at row"),
        ({"x": np.where(X[7, 2, 3] == X, 1e300, X), "y": Y}, r"has the value inf at row"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, refuses: Refuses, arrays: dict[str, Any], message: str) -> None:
    refuses(save(tmp_path, **arrays), message)


def test_a_label_beyond_the_named_classes_is_refused(tmp_path: Path, refuses: Refuses) -> None:
    source = save(tmp_path, x=X, y=np.where(np.arange(20) == 13, 2, Y))
    refuses(source.model_copy(update={"classes": ["a", "b"]}), r"label 2 at y\[13\] in .* is outside 0\.\.1")
    words = save(tmp_path, x=X, y=np.array(["a", "c"])[Y])
    refuses(words.model_copy(update={"classes": ["a", "b"]}), r"label 'c' at y\[1\] in .* not one of the classes")
    refuses(words.model_copy(update={"classes": ["a", "a"]}), "name one class twice")


def test_a_position_in_the_test_set_is_named_as_such(tmp_path: Path, refuses: Refuses) -> None:
    poisoned = X[:4].astype(float)
    poisoned[2, 1, 1] = np.inf
    refuses(save(tmp_path, x=X, y=Y, x_test=poisoned, y_test=Y[:4]), r"x_test\[2\] in .* has the value inf at row 1, column 1, channel 0")


@pytest.mark.parametrize("damage", ["nothing", "text", "half", "single array", "pickle"])
def test_damaged_archives_are_refused(tmp_path: Path, refuses: Refuses, damage: str) -> None:
    source = save(tmp_path, x=X, y=Y)
    path = tmp_path / "data.npz"
    whole = path.read_bytes()
    if damage == "single array":
        with path.open("wb") as file:
            np.save(file, X)
    elif damage == "pickle":
        with path.open("wb") as file:
            np.save(file, np.array([{}]), allow_pickle=True)
    else:
        path.write_bytes({"nothing": b"", "text": b"hello", "half": whole[: len(whole) // 2]}[damage])
    refuses(source, "data.npz")


def test_a_flipped_byte_inside_an_archive_is_refused(tmp_path: Path, refuses: Refuses) -> None:
    source = save(tmp_path, x=X, y=Y)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[300] ^= 255
    (tmp_path / "data.npz").write_bytes(content)
    refuses(source, "'x' in .*data.npz is damaged")


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown compression"])
def test_an_archive_that_cannot_be_unpacked_is_refused(tmp_path: Path, refuses: Refuses, offset: int, value: int) -> None:
    source = save(tmp_path, x=X, y=Y)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value
    (tmp_path / "data.npz").write_bytes(content)
    refuses(source, "'x' in .*data.npz is damaged")


def test_a_test_set_needs_both_names() -> None:
    with pytest.raises(ValidationError, match="x_test and y_test go together"):
        Npz(path="data.npz", x_test=None)
