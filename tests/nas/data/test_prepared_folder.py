"""Prepare and Dataset: what is written, that it repeats, that errors and crashes leave nothing, and how much memory it takes."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.data.dataset import SPLITS, Dataset, Description
from nas.data.digest import Digest
from nas.data.errors import DataError
from nas.data.prepare import Splits
from nas.data.sources.base import Samples, Source
from nas.data.sources.digits import Digits
from nas.data.statistics import statistics


class Given(Source):
    """Samples that a test makes up; colours 0..255, or the same as float32."""

    dtype: str = "uint8"
    poison: float | None = None
    wrong: bool = False

    def read(self, root: Path) -> Samples:
        pixels = np.random.default_rng(0).integers(0, 256, (60, 5, 4, 3)).astype(self.dtype)
        if self.poison is not None:
            pixels[37, 4, 2, 1] = self.poison
        return Samples(
            classes=["a", "b"],
            targets=np.arange(60) % 2,
            shape=(5, 4, 3),
            dtype=self.dtype,
            batch=lambda indices: pixels[indices][:, :, : 3 if self.wrong else 4],
        )

    def paths(self) -> list[str]:
        return []


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_prepared_folder_says_what_it_holds(tmp_path: Path, prepared: Callable[..., Description], dtype: str) -> None:
    description = prepared(Given(dtype=dtype))
    dataset = Dataset.open(tmp_path / "prepared")
    assert dataset.description == description
    assert description.input_shape == (5, 4, 3)
    assert description.input_dtype == dtype
    assert description.source == {"name": "test_prepared_folder", "dtype": dtype, "poison": None, "wrong": False}
    assert set(content(tmp_path / "prepared")) == {
        "dataset.json",
        *(f"{split}_{part}.npy" for split in SPLITS for part in ("inputs", "targets")),
    }
    for split in SPLITS:
        inputs, targets = dataset.inputs(split), dataset.targets(split)
        assert inputs.shape == (description.counts[split], 5, 4, 3)
        assert inputs.dtype == dtype
        assert isinstance(inputs, np.memmap)
        assert targets.dtype == np.int64
        assert np.bincount(targets).tolist() == description.class_counts[split]
    fit = np.asarray(dataset.inputs("fit"), dtype=np.float64)
    assert description.mean == pytest.approx(fit.mean(axis=(0, 1, 2)))
    assert description.std == pytest.approx(fit.std(axis=(0, 1, 2)))
    assert (description.low, description.high) == (fit.min(), fit.max())
    dataset.verify()


def test_every_example_keeps_its_label(tmp_path: Path, prepared: Callable[..., Description]) -> None:
    prepared(Digits())
    samples = Digits().read(tmp_path)
    label_of = {samples.batch(np.array([index])).tobytes(): target for index, target in enumerate(samples.targets)}
    dataset = Dataset.open(tmp_path / "prepared")
    seen = [
        (image.tobytes(), target) for split in SPLITS for image, target in zip(dataset.inputs(split), dataset.targets(split), strict=True)
    ]
    assert len(seen) == 1797
    assert all(label_of[image] == target for image, target in seen)


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, prepared: Callable[..., Description]) -> None:
    first, second = prepared(Digits(), folder="first"), prepared(Digits(), folder="second")
    assert first == second
    assert content(tmp_path / "first") == content(tmp_path / "second")
    assert prepared(Digits(), Splits(seed=1), folder="third").digest != first.digest


def test_the_digest_of_the_digits_never_changes(prepared: Callable[..., Description]) -> None:
    assert prepared(Digits()).digest == "d437059296d4f801b5511ca23fee76c3c34820d9198c20d61b0c3225fc55dc27"


def test_a_digest_sees_names_shapes_types_and_content_but_not_the_parts() -> None:
    def of(name: str, *parts: np.ndarray, shape: tuple[int, ...] = (4,), classes: tuple[str, ...] = ("a", "b")) -> str:
        digest = Digest(classes)
        digest.begin(name, parts[0].dtype, shape)
        for part in parts:
            digest.add(part)
        return digest.hexdigest()

    values = np.arange(4, dtype=np.int64)
    base = of("x", values)
    assert of("x", values[:1], values[1:]) == base
    assert of("x", values.astype(">i8")) == base
    others = [
        of("y", values),
        of("x", values, shape=(2, 2)),
        of("x", values.view(np.uint64)),
        of("x", values + 1),
        of("x", values, classes=("ab",)),
    ]
    assert len({base, *others}) == 6


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_statistics_do_not_depend_on_the_batches_and_replace_a_deviation_of_zero(dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 3, 2)).astype(dtype)
    pixels[..., 1] = np.array(7.1).astype(dtype)
    whole, parts = statistics(dtype, 2), statistics(dtype, 2)
    whole.add(pixels)
    for part in np.array_split(pixels, 7):
        parts.add(part)
    mean, std = parts.result()
    assert whole.result() == (pytest.approx(mean), pytest.approx(std))
    assert mean == pytest.approx(pixels.mean(axis=(0, 1, 2), dtype=np.float64))
    assert std == pytest.approx([pixels[..., 0].std(dtype=np.float64), 1.0])


def test_float_statistics_survive_a_mean_far_from_zero() -> None:
    pixels = (1e6 + np.random.default_rng(0).integers(0, 2, (100, 2, 2, 1))).astype(np.float32)
    measured = statistics("float32", 1)
    for part in np.array_split(pixels, 9):
        measured.add(part)
    assert measured.result()[1] == pytest.approx([pixels.astype(np.float64).std()], rel=1e-9)


@pytest.mark.parametrize(("poison", "shown"), [(float("nan"), "nan"), (float("-inf"), "-inf")])
def test_a_value_that_is_not_finite_is_refused_with_its_place(refuses: Callable[..., None], poison: float, shown: str) -> None:
    refuses(Given(dtype="float32", poison=poison), f"example 37 has the value {shown} at row 4, column 2, channel 1")


def test_a_source_that_breaks_its_announcement_is_refused(refuses: Callable[..., None]) -> None:
    refuses(Given(wrong=True), r"announced as uint8 of shape \(5, 4, 3\)")


def test_an_existing_folder_is_left_alone_and_an_empty_one_is_used(tmp_path: Path, prepared: Callable[..., Description]) -> None:
    (tmp_path / "prepared").mkdir()
    prepared(Given())
    before = content(tmp_path / "prepared")
    with pytest.raises(DataError, match="already exists"):
        prepared(Given())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        prepared(Given(), folder="file")
    assert content(tmp_path / "prepared") == before


def test_a_killed_run_leaves_no_folder_and_the_next_one_clears_its_remains(tmp_path: Path, prepared: Callable[..., Description]) -> None:
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from nas.data import prepare
        from nas.data.sources.digits import Digits
        prepare.atomic.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        prepare.prepare(Digits(), prepare.Splits(), Path({str(tmp_path / "prepared")!r}), task="t", root=Path())
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False).returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == [".prepared.partial"]
    prepared(Digits())
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    Dataset.open(tmp_path / "prepared").verify()


def test_two_runs_cannot_fill_one_folder(tmp_path: Path, prepared: Callable[..., Description]) -> None:
    class Nested(Given):
        def read(self, root: Path) -> Samples:
            samples = super().read(root)

            def batch(indices: np.ndarray) -> Any:
                with pytest.raises(DataError, match="being prepared by another process"):
                    prepared(Given())
                return samples.batch(indices)

            return Samples(samples.classes, samples.targets, samples.shape, samples.dtype, batch)

    prepared(Nested())
    Dataset.open(tmp_path / "prepared").verify()


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """200 MB go through; the same array in memory would show in the peak."""
    program = f"""
        import resource
        from pathlib import Path
        import numpy as np
        from nas.data.prepare import Splits, prepare
        from nas.data.sources.base import Samples, Source

        class Many(Source):
            count: int
            def read(self, root):
                image = np.zeros((100, 100, 1), dtype=np.uint8)
                batch = lambda indices: np.broadcast_to(image, (indices.size, 100, 100, 1))
                return Samples(["a", "b"], np.arange(self.count) % 2, (100, 100, 1), "uint8", batch)
            def paths(self):
                return []

        def peak(count):
            prepare(Many(count=count), Splits(), Path({str(tmp_path)!r}) / str(count), task="t", root=Path())
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = peak(2_000)
        print(peak(20_000) - before)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(result.stdout) * unit < 60e6


@pytest.fixture
def folder(tmp_path: Path, prepared: Callable[..., Description]) -> Path:
    prepared(Given())
    return tmp_path / "prepared"


def change(folder: Path, **values: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def remove(folder: Path, name: str) -> None:
    """Leave out a value of a description of floats."""
    path = folder / "dataset.json"
    values = {**json.loads(path.read_text()), "input_dtype": "float32"}
    path.write_text(json.dumps({key: value for key, value in values.items() if key != name}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "dataset.json").unlink(), "run the prepare stage first"),
        (lambda folder: (folder / "dataset.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "dataset.json").write_text("[]"), "format version None"),
        (lambda folder: change(folder, format_version=2), "format version 2 but this program reads version 1"),
        (lambda folder: change(folder, extra=2), "damaged at 'extra'"),
        (lambda folder: change(folder, counts={"fit": 33}), "counts the splits"),
        (lambda folder: remove(folder, "high"), "damaged at 'low and high'"),
        (lambda folder: change(folder, input_shape=[5, 4, 1]), r"describes uint8 of shape \(33, 5, 4, 1\)"),
        (lambda folder: (folder / "select_targets.npy").unlink(), "select_targets.npy is missing"),
        (lambda folder: (folder / "select_inputs.npy").write_bytes(b""), "cannot be read as an array"),
        (lambda folder: os.truncate(folder / "select_inputs.npy", 200), "cannot be read as an array"),
        (lambda folder: np.save(folder / "test_targets.npy", np.zeros(12, dtype=np.int32)), "holds int32"),
        (lambda folder: np.save(folder / "test_targets.npy", np.array([{}] * 12)), "cannot be read as an array"),
    ],
)
def test_a_damaged_folder_does_not_open(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message):
        Dataset.open(folder, SPLITS)


def test_a_changed_pixel_is_found_by_verify(folder: Path) -> None:
    pixels = np.load(folder / "fit_inputs.npy")
    pixels[0, 0, 0, 0] ^= 1
    np.save(folder / "fit_inputs.npy", pixels)
    with pytest.raises(DataError, match="prepare the data again"):
        Dataset.open(folder).verify()


def test_an_unknown_split_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="split 'train' does not exist; use one of fit"):
        Dataset.open(folder).inputs("train")
