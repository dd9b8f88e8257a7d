"""onnxruntime-web comes from the cache or the registry that npm uses, and only the bytes that are pinned are taken."""

import base64
import hashlib
import io
import stat
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from export.web import runtime as module
from export.web.runtime import BINARY, SCRIPT, Runtime, RuntimeMissingError, npm_registry, runtime

CONTENTS = {SCRIPT: b"export {};", BINARY: b"\0asm"}


def package(contents: Mapping[str, bytes]) -> bytes:
    """A package as a registry holds it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


PACKAGE = package(
    {"package/dist/ort.js": b"x", "../" + SCRIPT: b"evil", **{f"package/dist/{name}": data for name, data in CONTENTS.items()}}
)


@dataclass
class Registry:
    """What a registry on this machine sends, and what it was asked for."""

    answer: bytes = PACKAGE
    status: int = 200
    address: str = ""
    asked: list[str] = field(default_factory=list)
    secrets: list[str | None] = field(default_factory=list)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry whose package is taken for onnxruntime-web."""
    held = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            held.asked.append(self.path)
            held.secrets.append(self.headers["Authorization"])
            self.send_response(held.status)
            self.end_headers()
            self.wfile.write(held.answer)

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setattr(module, "ARCHIVE_BYTES", len(PACKAGE))
    monkeypatch.setattr(module, "ARCHIVE_SHA512", hashlib.sha512(PACKAGE).hexdigest())
    monkeypatch.setattr(module, "SHA256", {name: hashlib.sha256(data).hexdigest() for name, data in CONTENTS.items()})
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield held
        server.shutdown()
        thread.join()


def test_the_two_files_are_fetched_once(registry: Registry, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        assert runtime(cache, registry.address + "/") == Runtime(CONTENTS[SCRIPT], CONTENTS[BINARY])
    assert registry.asked == [f"/onnxruntime-web/-/onnxruntime-web-{module.VERSION}.tgz"]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == CONTENTS
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_damaged_cache_is_filled_again(registry: Registry, tmp_path: Path) -> None:
    runtime(tmp_path, registry.address)
    for damage in (b"", b"other"):
        (tmp_path / BINARY).write_bytes(damage)
        assert runtime(tmp_path, registry.address).binary == CONTENTS[BINARY]
    assert len(registry.asked) == 3


@pytest.mark.parametrize("answer", [PACKAGE[:-1], PACKAGE + b"\0", package({f"package/dist/{SCRIPT}": b"evil"}), b"<html>", bytes(10**6)])
def test_other_bytes_are_refused(registry: Registry, tmp_path: Path, answer: bytes) -> None:
    registry.answer = answer
    with pytest.raises(RuntimeMissingError, match=r"the npm registry 127\.0\.0\.1:\d+ \(it sent [\d,]+ bytes with the SHA-512 \w+, not"):
        runtime(tmp_path, registry.address)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_final_and_a_fault_is_asked_again(registry: Registry, tmp_path: Path) -> None:
    for status, times in ((404, 1), (503, module.ATTEMPTS)):
        registry.status, registry.asked = status, []
        with pytest.raises(RuntimeMissingError, match=rf"it answers {status} .*export\.web: false"):
            runtime(tmp_path, registry.address)
        assert len(registry.asked) == times


def test_a_name_and_password_are_sent_and_not_told(registry: Registry, tmp_path: Path) -> None:
    registry.status = 403
    with pytest.raises(RuntimeMissingError) as error:
        runtime(tmp_path, registry.address.replace("://", "://anna:s%40cret@"))
    assert "cret" not in str(error.value)
    assert registry.secrets == [f"Basic {base64.b64encode(b'anna:s@cret').decode()}"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "file:///etc", "nonsense", "http://[", "http://host:port"])
def test_an_address_that_leads_nowhere_is_told_in_a_sentence(tmp_path: Path, address: str) -> None:
    with pytest.raises(
        RuntimeMissingError, match=r"^onnxruntime-web .* cannot be had from the npm registry .*: name a registry that has it"
    ):
        runtime(tmp_path, address)


def test_a_cache_that_cannot_be_written_is_told_in_a_sentence(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeMissingError, match=r"cannot be kept in .*file/cache .*: set XDG_CACHE_HOME"):
        runtime(tmp_path / "file" / "cache", registry.address)


def test_the_cache_lies_where_caches_lie(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.address)
    for named, place in ((str(tmp_path / "xdg"), "xdg"), ("", "home/.cache"), ("relative", "home/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        runtime()
        assert (tmp_path / place / "nasflow" / f"onnxruntime-web-{module.VERSION}" / BINARY).read_bytes() == CONTENTS[BINARY]
    assert len(registry.asked) == 2


def test_the_registry_is_npms_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert npm_registry() == "https://registry.npmjs.org"
    npm = tmp_path / "npm"
    for script, found in (
        ('echo "https://npm.example/$1/$2/$3/"', "https://npm.example/config/get/registry/"),
        ("echo undefined", module.REGISTRY),
        ("exit 1", module.REGISTRY),
    ):
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
        assert npm_registry() == found
    monkeypatch.setenv("npm_config_registry", "https://lower.example")
    assert npm_registry() == "https://lower.example"


def test_the_real_files_are_what_is_pinned(real_runtime: Runtime) -> None:
    assert f"ONNX Runtime Web v{module.VERSION}".encode() in real_runtime.script[:200]
    assert b"MIT License" in real_runtime.script[:200]
    assert real_runtime.binary[:4] == b"\0asm"
