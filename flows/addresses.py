"""Files at addresses that settings pin by checksum: a new file there cannot slip in, so somebody is told that there is one."""

import json
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from flows import lineage
from flows.tracking import WORK
from nas import atomic

_TIMEOUT_SECONDS = 10.0
_SIGNS = ("ETag", "Last-Modified", "Content-Length")


def look(root: Path, say: Callable[[str], None]) -> None:
    """Ask every address of `prepare.source` for its file's ETag, and `say` where it is another than the last time; nothing is fetched."""
    wanted = _addresses(root)
    if not wanted:
        return
    path = root / WORK / "addresses.json"
    known = _known(path)
    found = {url: known[url] for url, checksum in wanted.items() if known.get(url, {}).get("sha256") == checksum}
    for url, checksum in wanted.items():
        try:
            signs = _signs(url)
        except (OSError, HTTPException) as error:
            say(f"{url} could not be asked whether its file has changed ({error}); the run goes on with the file that is there")
            continue
        # What was seen first belongs to the checksum, so that a change is told until another checksum is given.
        if found.setdefault(url, {"sha256": checksum, "signs": signs})["signs"] != signs:
            say(f"{url} has another file than the one of prepare.source.sha256, which the run takes: put its checksum there to change")
    if found != known:
        atomic.write_json(path, found)


def _addresses(root: Path) -> dict[str, str]:
    """The SHA-256 that the settings give by address."""
    source = lineage.parse((root / "params.yaml").read_text()).get("prepare", {}).get("source", {})
    if not isinstance(source, Mapping) or not isinstance(source.get("url"), str):
        return {}
    return {f"{source['url'].rstrip('/')}/{name}": checksum for name, checksum in source.get("sha256", {}).items()}


def _signs(url: str) -> dict[str, str]:
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_SECONDS) as answer:
        return {name: value for name in _SIGNS if (value := answer.headers.get(name)) is not None}


def _known(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known
