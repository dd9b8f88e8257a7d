"""Image files of any size, mode and usual format -> arrays of one shape."""

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.data.errors import DataError

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Pillow's readers let what they trip over in a damaged file pass through as any of these.
_UNDECODABLE = (OSError, ValueError, SyntaxError, TypeError, LookupError, OverflowError, struct.error, zlib.error)


@final
@dataclass(frozen=True)
class Decoder:
    """Decodes files into bytes of height x width x channels.

    The first frame counts, EXIF orientation is honoured, transparency is dropped, 16-bit grey keeps its upper 8 bits, and the
    whole image is resized with antialiasing to `size` without keeping its aspect.
    """

    size: tuple[int, int]  # height, width
    channels: int  # 1 grey, 3 colour
    largest: int  # most pixels a file may have

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Return one file as H x W x C.

        Raises:
            DataError: the file is missing, cannot be decoded, is larger than `largest`, or has no agreed scale.
        """
        try:
            with Image.open(path) as image:
                self._refuse_large(path, image.width * image.height)
                picture = self._convert(path, image)
        except Image.DecompressionBombError as error:
            raise DataError(f"{path} is too large to decode safely ({error}); make it smaller or remove it") from error
        except DataError:
            raise
        except _UNDECODABLE as error:
            raise DataError(f"{path} cannot be decoded as an image ({error}); replace or remove it") from error
        return np.asarray(picture, dtype=np.uint8).reshape(*self.size, self.channels)

    def batch(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        """Return n files as n x H x W x C, decoded in parallel threads (Pillow works outside the interpreter's lock)."""
        result = np.empty((len(paths), *self.size, self.channels), dtype=np.uint8)
        with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
            for position, picture in enumerate(pool.map(self.decode, paths)):
                result[position] = picture
        return result

    def batches(self, path_of: Callable[[int], Path]) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
        """Return the function from positions to a batch, for files that are found by position."""
        return lambda indices: self.batch([path_of(index) for index in indices.tolist()])

    def _refuse_large(self, path: Path, pixels: int) -> None:
        if pixels > self.largest:
            raise DataError(f"{path} has {pixels} pixels but at most {self.largest} are decoded; make it smaller or raise `largest`")

    def _convert(self, path: Path, image: Image.Image) -> Image.Image:
        mode = "L" if self.channels == 1 else "RGB"
        height, width = self.size
        side = 2 * max(height, width)
        image.draft(mode, (side, side))  # a JPEG is decoded at a half, quarter or eighth where that still leaves twice the size
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("I", "F"):
            raise DataError(f"{path} has 32-bit pixels (mode {upright.mode}) without an agreed scale; save it with 8 or 16 bits")
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        elif upright.mode in ("P", "PA"):
            upright = upright.convert("RGBA")  # Pillow warns when a palette with transparency loses it in one step
        return upright.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
