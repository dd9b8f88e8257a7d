"""Idx: the four files, compressed or not, every kind of bad file, and fetching them from a server that breaks off."""

import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from nas.data.dataset import Dataset, Description
from nas.data.download import download
from nas.data.errors import DataError
from nas.data.sources.idx import PRESETS, Idx
from nas.data.sources.npz import Npz

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 3)).astype(np.uint8)
LABELS = (np.arange(20) % 2).astype(np.uint8)
SOURCE = Idx(path="files")
FASHION = Path(__file__).resolve().parents[3] / "../shared/data/fashion_mnist/fashion_mnist.npz"
Prepare = Callable[..., Description]
Refuses = Callable[[Idx, str], None]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def packed(array: np.ndarray) -> bytes:
    return gzip.compress(idx(array), mtime=0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(packed(IMAGES))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(packed(LABELS))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:4] ^ 1))
    (folder / "t10k-labels.idx1-ubyte").write_bytes(idx(LABELS[:4]))
    return folder


def test_files_compressed_or_not_under_either_spelling(tmp_path: Path, files: Path, prepared: Prepare) -> None:
    description = prepared(SOURCE.model_copy(update={"classes": ["even", "odd"]}))
    assert description.input_shape == (4, 3, 1)
    assert description.classes == ["even", "odd"]
    dataset = Dataset.open(tmp_path / "prepared")
    assert np.array_equal(dataset.inputs("test")[..., 0], IMAGES[:4] ^ 1)
    assert np.array_equal(dataset.targets("test"), LABELS[:4])
    assert sum(description.counts.values()) == 24


def test_without_a_test_set_one_is_cut_from_the_rest(files: Path, prepared: Prepare) -> None:
    for path in files.glob("t10k*"):
        path.unlink()
    description = prepared(SOURCE)
    assert sum(description.counts.values()) == 20
    assert description.counts["test"] == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", None, "holds no train-images-idx3-ubyte.gz and no train-images-idx3-ubyte"),
        ("t10k-labels.idx1-ubyte", None, "holds no t10k-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", b"", "is empty"),
        ("train-images-idx3-ubyte.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("train-images-idx3-ubyte.gz", packed(IMAGES)[:-20], "is damaged or incomplete"),
        ("train-images-idx3-ubyte.gz", packed(IMAGES)[:100] + b"x" + packed(IMAGES)[101:], "is damaged or incomplete"),
        ("train-images-idx3-ubyte.gz", packed(LABELS), "begins with 00000801 instead of 00000803"),
        ("train-images-idx3-ubyte.gz", idx(IMAGES)[:9], "begins with 00000803"),
        ("train-images-idx3-ubyte.gz", idx(IMAGES)[:-1], r"announces 240 bytes in shape \(20, 4, 3\) but holds 239"),
        ("train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES) + b"x", mtime=0), "but holds more"),
        ("train-images-idx3-ubyte.gz", idx(IMAGES[:0]), "holds no examples"),
        ("train-images-idx3-ubyte.gz", bytes([0, 0, 8, 3]) + b"\x7f" * 12, "more than a file of its size can hold"),
        ("train-labels-idx1-ubyte.gz", packed(LABELS[:19]), "holds 20 images but train-labels-idx1-ubyte holds 19 labels"),
        ("t10k-images-idx3-ubyte", idx(IMAGES[:4, 1:]), r"train images are \(4, 3\) but t10k images \(3, 3\)"),
        ("train-labels-idx1-ubyte.gz", packed(LABELS * 2), "label 1 does not occur|class '1' has"),
    ],
)
def test_bad_files_are_refused(files: Path, refuses: Refuses, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (files / name).unlink()
    else:
        (files / name).write_bytes(content)
    refuses(SOURCE, message)


def test_a_label_beyond_the_named_classes_is_refused(files: Path, refuses: Refuses) -> None:
    (files / "train-labels-idx1-ubyte.gz").write_bytes(packed(np.where(np.arange(20) == 13, 7, LABELS).astype(np.uint8)))
    refuses(SOURCE.model_copy(update={"classes": ["a", "b"]}), r"label 7 at train-labels-idx1-ubyte\[13\] is outside 0\.\.1")


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "http://localhost"},
        {"sha256": {"train-images-idx3-ubyte.gz": "0" * 64}},
        {"url": "ftp://localhost", "sha256": {"train-images-idx3-ubyte.gz": "0" * 64}},
        {"url": "http://localhost", "sha256": {"train-images-idx3-ubyte.gz": "0"}},
        {"url": "http://localhost", "sha256": {"../escape": "0" * 64}},
        {"preset": "fashion_mnist", "url": "http://localhost"},
        {"preset": "no_such_set"},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Idx.model_validate({"path": "files", **settings})


def test_what_is_fetched_is_no_file_of_the_user() -> None:
    assert SOURCE.paths() == ["files"]
    assert Idx(path="files", preset="fashion_mnist").paths() == []


class Server:
    """Serves a folder; can break off after some bytes, ignore ranges, or answer with an error, and notes every request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.break_after: list[int] = []
        self.ranges = True
        self.statuses: list[int] = []
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append((handler.path, wanted))
        if self.statuses:
            return handler.send_error(self.statuses.pop(0))
        path = self.folder / handler.path.lstrip("/")
        if not path.exists():
            return handler.send_error(404)
        content = path.read_bytes()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(content):
            return handler.send_error(416)
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        stop = self.break_after.pop(0) if self.break_after else len(content)
        handler.wfile.write(content[start : start + stop])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    serving = Server(folder)
    thread = threading.Thread(target=serving.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()
    thread.join()


CONTENT = np.random.default_rng(1).bytes(100_000)
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def target(tmp_path: Path, server: Server) -> Path:
    (server.folder / "file").write_bytes(CONTENT)
    return tmp_path / "fetched" / "file"


def test_an_interrupted_transfer_is_continued(server: Server, target: Path) -> None:
    server.break_after = [30_000, 20_000]
    download(server.url + "file", target, CHECKSUM)
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/file", None), ("/file", "bytes=30000-"), ("/file", "bytes=50000-")]
    assert list(target.parent.iterdir()) == [target]


def test_what_failed_is_continued_by_a_later_call_and_then_not_fetched_again(server: Server, target: Path) -> None:
    server.break_after = [10_000, 10_000, 10_000]
    with pytest.raises(DataError, match=r"after 30000 bytes.*run again to continue"):
        download(server.url + "file", target, CHECKSUM)
    assert [path.name for path in target.parent.iterdir()] == ["file.part"]
    for _ in range(2):
        download(server.url + "file", target, CHECKSUM)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_a_server_without_ranges_and_one_that_fails_for_a_moment(server: Server, target: Path) -> None:
    server.ranges = False
    server.statuses = [503]
    server.break_after = [30_000]
    download(server.url + "file", target, CHECKSUM)
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_only_checked(server: Server, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "file.part").write_bytes(CONTENT)
    download(server.url + "file", target, CHECKSUM)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_names_both_and_leaves_nothing(server: Server, target: Path) -> None:
    with pytest.raises(DataError, match=f"SHA-256 {CHECKSUM} but {'0' * 64} was expected"):
        download(server.url + "file", target, "0" * 64)
    assert list(target.parent.iterdir()) == []
    target.write_bytes(b"mine")
    with pytest.raises(DataError, match="remove the file to fetch it again"):
        download(server.url + "file", target, CHECKSUM)
    assert target.read_bytes() == b"mine"


def test_a_missing_file_and_a_missing_server(server: Server, target: Path) -> None:
    with pytest.raises(DataError, match="answers 404"):
        download(server.url + "other", target, CHECKSUM)
    with pytest.raises(DataError, match="could not be fetched in 3 attempts"):
        download("http://127.0.0.1:9/file", target, CHECKSUM)


def test_two_at_once_fetch_one_file_once(server: Server, target: Path) -> None:
    threads = [threading.Thread(target=download, args=(server.url + "file", target, CHECKSUM)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert list(target.parent.iterdir()) == [target]


def test_a_set_is_fetched_by_address_and_checksum(server: Server, files: Path, prepared: Prepare) -> None:
    names = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    for name in names:
        (files / name).rename(server.folder / name)
    sums = {name: hashlib.sha256((server.folder / name).read_bytes()).hexdigest() for name in names}
    source = Idx(path="cache", url=server.url, sha256=sums)
    assert sum(prepared(source).counts.values()) == 20
    assert sum(prepared(source, folder="again").counts.values()) == 20
    assert len(server.requests) == 2


@pytest.mark.data
def test_fashion_mnist_is_the_same_from_either_source(tmp_path: Path, prepared: Prepare) -> None:
    if not FASHION.exists():
        pytest.skip(f"{FASHION} is missing")
    (tmp_path / "files").mkdir()
    with np.load(FASHION, allow_pickle=False) as archive:
        for part, name in (("train", "train"), ("test", "t10k")):
            (tmp_path / f"files/{name}-images-idx3-ubyte").write_bytes(idx(archive[f"x_{part}"]))
            (tmp_path / f"files/{name}-labels-idx1-ubyte").write_bytes(idx(archive[f"y_{part}"]))
    classes = PRESETS["fashion_mnist"].classes
    first = prepared(SOURCE.model_copy(update={"classes": classes}), folder="first")
    second = prepared(Npz(path=str(FASHION), classes=classes), folder="second")
    assert first.digest == second.digest
    assert first.counts == {"fit": 41250, "select": 11250, "confirm": 7500, "test": 10000}
    assert first.class_counts["test"] == [1000] * 10
