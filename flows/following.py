"""Data under DVC follow their `.dvc` file, which `git pull` changes, unless somebody has changed them by hand.

A folder in which images were copied or deleted differs from its `.dvc` file as one does whose file has changed. So what was last seen to
be the version that the file names is noted: only data that still are that version make room for another one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from flows import tracking
from flows.printing import last_error_of_dvc
from nas import atomic

NOTES = "followed.json"
"""Below `.nasflow`: what was seen of the data of each `.dvc` file."""


@final
@dataclass(frozen=True)
class Seen:
    """The data of a `.dvc` file: the hashes that it names and those of what is there, by path; None where nothing is."""

    named: Mapping[str, str]
    there: Mapping[str, str | None]


def follow(root: Path, files: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Put the version of the data there that each of `files` names, where nobody has changed them; returns the files of such data.

    Data that are not there at all, of which a kill left half a version, or that are still the version noted last, are replaced. Anything
    else is somebody's own and stays, as does what cannot be had; `say` is told. Whoever calls holds the project's lock.
    """
    free = []
    for file in files:
        try:
            found = seen(root, file)
            if found.named == found.there:
                note(root, file, found.named)
            elif not (_is_ours(root, file, found) and _replaced(root, file, found, say)):
                say(f"the data of {file} have changes of their own, and the run takes them as they are: {_cures(file)}")
                continue
        except ValueError as error:
            say(f"whether the data are what {file} names could not be told: {error}")
            continue
        free.append(file)
    return free


def seen(root: Path, file: str) -> Seen:
    """What `file` names and what is there; DVC hashes only files that have changed. Raises ValueError with DVC's words."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            outputs = repo.stage.load_one(str(root / file)).outs
            named = {output.def_path: str(output.hash_info.value) for output in outputs}
            there = {output.def_path: str(output.get_hash().value) if output.exists else None for output in outputs}
    except (DvcException, OSError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return Seen(named, there)


def note(root: Path, file: str, named: Mapping[str, str], coming: bool = False) -> None:
    """Remember that the data of `file` are the version `named`; `coming`: until the next note another one is taking its place.

    A kill while that is so leaves a mixture, which is nobody's work.
    """
    notes = _notes(root)
    new = {**notes, file: {"named": dict(named), "coming": coming}}
    if new != notes:
        atomic.make_folder(root / tracking.WORK)
        atomic.write_json(root / tracking.WORK / NOTES, new)


def _notes(root: Path) -> dict[str, dict[str, Any]]:
    try:
        notes: dict[str, dict[str, Any]] = json.loads((root / tracking.WORK / NOTES).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return notes


def _is_ours(root: Path, file: str, found: Seen) -> bool:
    """Whether nobody's work is lost when other data take the place of those that are there."""
    noted = _notes(root).get(file, {})
    return not any(found.there.values()) or found.there == noted.get("named") or noted.get("coming", False)


def _replaced(root: Path, file: str, found: Seen, say: Callable[[str], None]) -> bool:
    """Replace the data; False where DVC refuses, because they are in no cache and would be lost."""
    before = {path: known for path, known in found.there.items() if known is not None}
    note(root, file, before, coming=True)
    done = tracking.dvc(root, "checkout", file)
    if done.returncode and "confirmation" not in done.stderr:
        done = tracking.dvc(root, "pull", file)  # the version is not in the cache of this machine
    if done.returncode == 0:
        note(root, file, found.named)
        say(f"the data are now the version that {file} names")
        return True
    if seen(root, file).there == found.there:
        note(root, file, before)
    if "confirmation" in done.stderr:
        return False
    why = last_error_of_dvc(done.stderr)
    say(f"the version that {file} names could not be had, so the run goes on with the data that are there: {why}")
    return True


def _cures(file: str) -> str:
    return f"`dvc add {file.removesuffix('.dvc')}` keeps them as a version, `dvc checkout {file}` takes them back"
