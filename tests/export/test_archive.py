import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from export.archive import arrays, zipped


def test_the_bytes_depend_on_the_contents_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"b/two.txt": b"2" * 1000, "a.txt": b"1"}
    first = zipped(contents)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    monkeypatch.setattr(time, "localtime", lambda *given: time.gmtime(2_000_000_000))
    assert zipped(dict(reversed(contents.items()))) == first
    assert zipped({**contents, "a.txt": b"3"}) != first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.testzip() is None
        assert [(entry.filename, entry.date_time[0], entry.external_attr >> 16) for entry in archive.infolist()] == [
            ("a.txt", 1980, 0o100644),
            ("b/two.txt", 1980, 0o100644),
        ]
        assert archive.read("b/two.txt") == contents["b/two.txt"]


def test_another_process_in_another_time_zone_writes_the_same() -> None:
    code = "import hashlib; from export.archive import zipped; print(hashlib.sha256(zipped({'a': b'1', 'b': b'2'})).hexdigest())"
    root = Path(__file__).parents[2]
    printed = {
        subprocess.check_output([sys.executable, "-c", code], cwd=root, env={**os.environ, "TZ": zone}, text=True)
        for zone in ("UTC-9", "UTC+9")
    }
    assert len(printed) == 1


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    given = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1], "tolerance": np.array(1e-4)}
    (tmp_path / "a.npz").write_bytes(arrays(given))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert sorted(read.files) == ["images", "tolerance"]
        np.testing.assert_array_equal(read["images"], given["images"])
        assert (read["tolerance"].shape, float(read["tolerance"])) == ((), 1e-4)
    with pytest.raises(ValueError, match="Object arrays"):
        arrays({"bad": np.array([{}], dtype=object)})
