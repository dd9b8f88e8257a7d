"""Image files in every format and mode that prepare and predict.py must read alike."""

import numpy as np
from PIL import Image

FORMATS = [
    ("a.png", "L"),
    ("a.png", "LA"),
    ("a.png", "RGB"),
    ("a.PNG", "RGBA"),
    ("a.png", "P"),
    ("a.png", "1"),
    ("a.png", "I;16"),
    ("a.tif", "I;16"),
    ("a.jpg", "L"),
    ("a.jpeg", "RGB"),
    ("a.jpg", "CMYK"),
    ("a.bmp", "RGB"),
    ("a.gif", "P"),
    ("a.webp", "RGB"),
    ("a.ppm", "RGB"),
]
WITHOUT_SCALE = [("a.tif", "F"), ("a.tif", "I")]


def picture(mode: str, size: tuple[int, int] = (37, 23), seed: int = 0) -> Image.Image:
    """Random colours of width x height in any mode; in 16 bits the lower half is random too."""
    width, height = size
    random = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 2**16, (height, width), dtype=np.uint16))
    if mode in ("I", "F"):
        return Image.fromarray(random.integers(0, 256, (height, width)).astype(np.int32 if mode == "I" else np.float32))
    return Image.fromarray(random.integers(0, 256, (height, width, 4 if mode == "RGBA" else 3), dtype=np.uint8)).convert(mode)
