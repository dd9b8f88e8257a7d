"""Before a scheduled run: data that are kept elsewhere are brought up to date, so that DVC sees what has changed.

Data under DVC follow their `.dvc` file, which `git pull` may have changed; data imported by `dvc import-url` follow their address, by
its ETag or checksum. Files in the folders themselves need nothing: DVC sees them change. Without a network a run goes on with what is
there, and says so.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows import addresses, tracking, watched

Say = Callable[[str], None]


def refresh(root: Path, say: Say) -> None:
    """Bring the data that stages of `root` read up to date; whoever calls holds the project's lock. `say` is told what was done."""
    files = list(dict.fromkeys(file for path in watched.paths(root) for file in tracked_by(root, path)))
    imported = [file for file in files if "deps" in _content(root / file)]
    if imported:
        _update(root, imported, say)
    kept = [file for file in files if file not in imported]
    if kept:
        _follow(root, kept, say)
    addresses.look(root, say)


def tracked_by(root: Path, path: str) -> Iterator[str]:
    """The `.dvc` files, relative to `root`, of which some put the data at `path` there: its own, of folders above it, or inside it."""
    place = Path(path)
    if place.is_absolute():
        return
    for folder in (place, *place.parents):
        if folder.name and (root / f"{folder}.dvc").is_file():
            yield f"{folder}.dvc"
    if (root / place).is_dir():
        yield from (str(found.relative_to(root)) for found in sorted((root / place).rglob("*.dvc")) if found.is_file())


def _update(root: Path, files: list[str], say: Say) -> None:
    """Fetch again what has changed at its source; DVC asks for the ETag or the checksum and fetches nothing that is the same."""
    for file in files:
        before = (root / file).read_bytes()
        done = tracking.dvc(root, "update", file)
        if done.returncode:
            say(f"the source of {file} could not be asked, so the run goes on with the data that are there: {_last(done.stderr)}")
        elif (root / file).read_bytes() != before:
            say(f"the source of {file} has changed: the new data were fetched")


def _follow(root: Path, files: list[str], say: Say) -> None:
    """Put the version of the data there that their `.dvc` files name; changes that nobody has added are left alone."""
    answer = tracking.dvc(root, "status", "--json", *files)
    try:
        differing: dict[str, Any] = json.loads(answer.stdout)
    except ValueError:
        say(f"whether the data are what {', '.join(files)} name could not be told: {_last(answer.stderr)}")
        return
    for file in (name for name in files if name in differing):
        done = tracking.dvc(root, "checkout", file)
        if done.returncode and "confirmation" not in done.stderr:
            done = tracking.dvc(root, "pull", file)  # the version is not in the cache of this machine
        if done.returncode == 0:
            say(f"the data are now the version that {file} names")
        elif "confirmation" in done.stderr:
            say(f"the data of {file} have changes of their own, and the run takes them as they are: `dvc add` keeps them as a version")
        else:
            say(f"the version that {file} names could not be had, so the run goes on with the data that are there: {_last(done.stderr)}")


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] | None = YAML(typ="safe").load(path.read_text())
    return content or {}


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("ERROR")] or text.strip().splitlines()[-1:]
    return lines[-1].removeprefix("ERROR: ") if lines else "DVC said nothing"
