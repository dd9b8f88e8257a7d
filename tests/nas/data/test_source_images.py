"""Images: any file that Pillow reads, one folder per class, and every kind of bad file or folder."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import FORMATS
from PIL import Image

from nas.data.dataset import Dataset, Description
from nas.data.errors import DataError
from nas.data.pictures import Decoder
from nas.data.sources.images import Images

Prepare = Callable[..., Description]
Refuses = Callable[[Images, str], None]
SOURCE = Images(path="pictures", size=(6, 5))


def test_a_folder_per_class(tmp_path: Path, class_folders: Path, prepared: Prepare) -> None:
    (class_folders / ".hidden").mkdir()
    (class_folders / "cat" / ".hidden.png").write_bytes(b"")
    (class_folders / "cat" / "notes.txt").write_text("not an image")
    description = prepared(SOURCE)
    assert description.classes == ["cat", "dog"]
    assert description.input_shape == (6, 5, 3)
    assert sum(description.counts.values()) == 16
    dataset = Dataset.open(tmp_path / "prepared")
    assert all((image.min() >= 100) == (target == 1) for image, target in zip(dataset.inputs("fit"), dataset.targets("fit"), strict=True))


def test_train_and_test_folders_and_folders_inside_a_class(tmp_path: Path, prepared: Prepare, fill: Callable[..., None]) -> None:
    for name in ("10", "9"):
        fill(tmp_path / "pictures" / "train" / name / "first", 4)
        fill(tmp_path / "pictures" / "train" / name / "second", 4)
        fill(tmp_path / "pictures" / "test" / name, 2, shade=200)
    description = prepared(SOURCE.model_copy(update={"channels": 1}))
    assert description.classes == ["9", "10"]
    assert description.class_counts["test"] == [2, 2]
    dataset = Dataset.open(tmp_path / "prepared")
    assert dataset.inputs("test")[:, 0, 0, 0].tolist() == [200, 201, 200, 201]
    assert dataset.inputs("fit").max() < 200


def test_classes_that_happen_to_be_called_train_and_test(tmp_path: Path, prepared: Prepare, fill: Callable[..., None]) -> None:
    for name in ("train", "test"):
        fill(tmp_path / "pictures" / name, 4)
    assert prepared(SOURCE).classes == ["test", "train"]


def shaded(mode: str) -> Image.Image:
    """An image 7 x 9 of one shade, 128 of 255, in any mode."""
    if mode == "I;16":
        return Image.fromarray(np.full((9, 7), 128 * 256 + 5, dtype=np.uint16))
    if mode == "1":
        return Image.new("1", (7, 9), 1)
    return Image.new("L", (7, 9), 128).convert("RGB").convert(mode)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "mode"), FORMATS)
def test_every_usual_format_and_mode(tmp_path: Path, name: str, mode: str, channels: int) -> None:
    shaded(mode).save(tmp_path / name)
    pixels = Decoder((4, 3), channels, 1000).decode(tmp_path / name)
    assert pixels.shape == (4, 3, channels)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (255 if mode == "1" else 128)).max() <= 2


def test_a_photo_on_its_side_is_put_upright(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40), dtype=np.uint8)
    pixels[:, 20:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the right side of the file is the bottom of the scene
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = Decoder((4, 2), 1, 1000).decode(tmp_path / "a.png")[..., 0]
    assert upright[[0, 3]].tolist() == [[0, 0], [255, 255]]


def test_a_large_photo_comes_out_nearly_as_without_the_fast_path(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:400, 0:600]
    photo = Image.fromarray(np.stack([rows * 255 // 400, columns * 255 // 600, (rows + columns) % 256], axis=-1).astype(np.uint8))
    photo.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        slow = np.asarray(image.resize((30, 20), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(Decoder((20, 30), 3, 10**6).decode(tmp_path / "a.jpg") - slow).mean() < 2


def test_an_undecodable_image_is_named(class_folders: Path, refuses: Refuses) -> None:
    (class_folders / "dog" / "5.png").write_bytes(b"this is no image")
    refuses(SOURCE, "dog/5.png cannot be decoded")


@pytest.mark.parametrize("size", [0, 8, 30, 60, 300])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp"])
def test_an_image_cut_short_is_an_error(tmp_path: Path, name: str, size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:size])
    with pytest.raises(DataError, match=name):
        Decoder((4, 3), 3, 10_000).decode(tmp_path / name)


@pytest.mark.parametrize("side", [400, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))))
    with pytest.raises(DataError, match=r"bomb.png (has \d+ pixels but at most 100000|is too large)"):
        Decoder((4, 3), 3, 100_000).decode(tmp_path / "bomb.png")


def test_pixels_without_a_scale_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="32-bit pixels"):
        Decoder((4, 3), 3, 1000).decode(tmp_path / "a.tif")


def test_bad_folders_are_refused(tmp_path: Path, refuses: Refuses, fill: Callable[..., None]) -> None:
    folder = tmp_path / "pictures"
    refuses(SOURCE, "pictures is not a folder")
    folder.mkdir()
    refuses(SOURCE, "holds no class folders")
    fill(folder / "cat", 4)
    refuses(SOURCE, "only one class, 'cat'")
    fill(folder / "dog", 3)
    refuses(SOURCE, "class 'dog' has 3 examples")
    (folder / "empty").mkdir()
    refuses(SOURCE, "empty holds no images")
    (folder / "loose.png").write_bytes(b"")
    refuses(SOURCE, "loose.png lies beside the class folders")


def test_bad_train_and_test_folders_are_refused(tmp_path: Path, refuses: Refuses, fill: Callable[..., None]) -> None:
    folder = tmp_path / "pictures"
    for name in ("train/cat", "train/dog", "test/cat"):
        fill(folder / name, 4)
    refuses(SOURCE, "class 'dog' has 0 examples in the source's own test set")
    fill(folder / "test/dog", 4)
    (folder / "validation").mkdir()
    refuses(SOURCE, "validation lies beside train and test")
