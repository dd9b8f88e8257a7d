"""predict.py decodes as prepare does, though neither imports the other: a model must see what it was trained on."""

from pathlib import Path

import numpy as np
import pytest
from picture_files import FORMATS, WITHOUT_SCALE, picture
from PIL import Image

from export import predict
from nas.data.errors import DataError
from nas.data.pictures import Decoder

HEIGHT, WIDTH = 6, 5


def both(path: Path, channels: int) -> tuple[np.ndarray, np.ndarray]:
    prepared = Decoder((HEIGHT, WIDTH), channels, 10**7).decode(path)
    return prepared, predict._pixels(path, (WIDTH, HEIGHT), channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(37, 23), (WIDTH, HEIGHT)])
@pytest.mark.parametrize(("name", "mode"), FORMATS)
def test_every_format_and_mode_gives_the_pixels_of_prepare(
    tmp_path: Path, name: str, mode: str, size: tuple[int, int], channels: int
) -> None:
    picture(mode, size).save(tmp_path / name)
    np.testing.assert_array_equal(*both(tmp_path / name, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(600, 400), (2000, 1500)])
def test_a_large_jpeg_gives_the_pixels_of_prepare(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    shades = np.stack([rows * 255 // size[1], columns * 255 // size[0], (rows + columns) % 256], axis=-1).astype(np.uint8)
    Image.fromarray(shades).save(tmp_path / "a.jpg", quality=90)
    np.testing.assert_array_equal(*both(tmp_path / "a.jpg", channels))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_gives_the_pixels_of_prepare(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture("RGB").save(tmp_path / "a.jpg", exif=exif)
    np.testing.assert_array_equal(*both(tmp_path / "a.jpg", 3))


@pytest.mark.parametrize(("name", "mode"), WITHOUT_SCALE)
def test_pixels_without_a_scale_are_refused_by_both(tmp_path: Path, name: str, mode: str) -> None:
    picture(mode).save(tmp_path / name)
    with pytest.raises(DataError, match="32-bit pixels"):
        Decoder((HEIGHT, WIDTH), 1, 1000).decode(tmp_path / name)
    with pytest.raises(predict.PredictError, match="32-bit pixels"):
        predict._pixels(tmp_path / name, (WIDTH, HEIGHT), 1)


@pytest.mark.parametrize("size", [0, 8, 30, 60, 300])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp"])
def test_an_image_cut_short_is_refused_in_a_sentence(tmp_path: Path, name: str, size: int) -> None:
    picture("RGB", (40, 40)).save(tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:size])
    with pytest.raises(predict.PredictError, match=f"{name} cannot be decoded"):
        predict._pixels(tmp_path / name, (WIDTH, HEIGHT), 3)
