"""onnxruntime-web, which runs the model in a browser: fetched from an npm registry once, and only the bytes that are named here.

It is other people's work (MIT licence) and no part of this repository. Of the package two files are kept: the smallest build, which
computes on the CPU by WebAssembly, as one script, and its binary.
"""

import base64
import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from export import files

VERSION = "1.30.0"
ARCHIVE_BYTES = 33_106_585
ARCHIVE_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
"""The registry's own figure for this version, "integrity", in hexadecimal digits."""
SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
REGISTRY = "https://registry.npmjs.org"
ATTEMPTS = 2
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 2**20


class RuntimeMissingError(RuntimeError):
    """onnxruntime-web is not here and cannot be had; the message says why, and what to do about it."""


@dataclass(frozen=True)
class Runtime:
    """The two files: a script, which is an ES module, and the binary that it starts."""

    script: bytes
    binary: bytes


def runtime(folder: Path | None = None, registry: str | None = None) -> Runtime:
    """The files from the cache, or from the registry, which fills the cache.

    folder: the cache; by default `$XDG_CACHE_HOME/nasflow/onnxruntime-web-<version>`, below `~/.cache` where that is not set.
    registry: an address as npm writes it; by default npm's own setting, see `npm_registry`.

    Raises RuntimeMissingError when neither has the bytes that were expected, or the cache cannot be written.
    """
    place = folder or _cache()
    found = _cached(place) or _fetched(registry or npm_registry(), place)
    return Runtime(found[SCRIPT], found[BINARY])


def npm_registry() -> str:
    """Where npm gets packages here: the variable NPM_CONFIG_REGISTRY in any case, else what npm says, else the public one."""
    named = [value for name, value in sorted(os.environ.items()) if name.lower() == "npm_config_registry" and value.strip()]
    return named[0].strip() if named else _npm_says() or REGISTRY


def _npm_says() -> str | None:
    npm = shutil.which("npm")
    if npm is None:
        return None
    try:
        run = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = run.stdout.strip()
    return answer if run.returncode == 0 and answer.startswith(("http://", "https://")) else None


def _cache() -> Path:
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification of XDG has relative paths ignored.
    return (named if named.is_absolute() else Path.home() / ".cache") / "nasflow" / f"onnxruntime-web-{VERSION}"


def _cached(folder: Path) -> dict[str, bytes] | None:
    try:
        found = {name: (folder / name).read_bytes() for name in SHA256}
    except OSError:
        return None
    return found if all(files.digest_of(found[name]) == expected for name, expected in SHA256.items()) else None


def _fetched(registry: str, folder: Path) -> Mapping[str, bytes]:
    """Fetch the package, keep its two files, and return them."""
    url = f"{registry.rstrip('/')}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    with tempfile.TemporaryFile() as archive:
        _download(url, archive)
        archive.seek(0)
        found = _members(archive)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in found.items():
            files.write(folder / name, content)
    except OSError as error:
        cure = "set XDG_CACHE_HOME to a folder that can be written"
        raise RuntimeMissingError(f"onnxruntime-web cannot be kept in {folder} ({error.strerror or error}): {cure}") from error
    return found


def _download(url: str, archive: BinaryIO) -> None:
    """Write the content of `url` to `archive`; refuse any other than the pinned one."""
    place, problem = url.partition("://")[2].partition("/")[0].rpartition("@")[2] or url, ""
    for _ in range(ATTEMPTS):
        archive.seek(0)
        archive.truncate()
        try:
            found = _copy(url, archive)
        except urllib.error.HTTPError as error:
            problem = f"it answers {error.code} {error.reason}"
            if error.code < 500:
                break
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", "") or error) or type(error).__name__
        else:
            if found == ARCHIVE_SHA512:
                return
            problem = f"it sent {archive.tell():,} bytes with the SHA-512 {found[:16]}, not {ARCHIVE_SHA512[:16]}"
    raise RuntimeMissingError(
        f"onnxruntime-web {VERSION} is not in the cache and cannot be had from the npm registry {place} ({problem}): "
        "name a registry that has it by NPM_CONFIG_REGISTRY, or do without the page by `export.web: false`"
    )


def _copy(url: str, archive: BinaryIO) -> str:
    """Copy what the address sends, as far as it can be the package, and return its SHA-512."""
    digest = hashlib.sha512()
    with urllib.request.urlopen(_request(url), timeout=TIMEOUT_SECONDS) as response:
        while archive.tell() <= ARCHIVE_BYTES and (chunk := response.read(CHUNK_BYTES)):
            digest.update(chunk)
            archive.write(chunk)
    return digest.hexdigest()


def _request(url: str) -> urllib.request.Request:
    """A request for an address; a name and password in it go where HTTP has them."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("its address does not begin with http:// or https://")
    if parts.username is None:
        return urllib.request.Request(url)
    secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib.request.Request(bare, headers={"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"})


def _members(archive: BinaryIO) -> dict[str, bytes]:
    """The two files: by their exact paths in the package and never to a path that it names."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=archive, mode="r|gz") as package:
        for member in package:
            name = member.name.removeprefix("package/dist/")
            if name in SHA256 and member.name == f"package/dist/{name}" and (stream := package.extractfile(member)):
                found[name] = stream.read()
            if len(found) == len(SHA256):
                break
    # The archive is the pinned one, so only a slip in this file can make these differ.
    assert {name: files.digest_of(content) for name, content in found.items()} == SHA256
    return found
