"""Zip files whose bytes depend on nothing but what is in them."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """One zip file of `contents` by path inside it: sorted names, one fixed time, one mode, any platform.

    Nothing is compressed: weights hardly shrink, and every version of zlib writes other bytes.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, FIRST_DAY)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name])
    return stream.getvalue()


def arrays(contents: Mapping[str, NDArray[np.generic]]) -> bytes:
    """An .npz file, as numpy.load reads it with allow_pickle=False. Raises ValueError for an array of Python objects."""
    made = {}
    for name, array in contents.items():
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)
        made[f"{name}.npy"] = stream.getvalue()
    return zipped(made)
