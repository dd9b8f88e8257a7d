"""Before a scheduled run: data that are kept elsewhere are brought up to date, so that DVC sees what has changed.

Data under DVC follow their `.dvc` file, which `git pull` may have changed; data imported by `dvc import-url` follow their address, by
its ETag or checksum. Files in the folders themselves need nothing: DVC sees them change, and what somebody has changed by hand stays.
Without a network a run goes on with what is there, and says so.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from flows import addresses, following, lineage, tracking, watched
from flows.printing import last_error_of_dvc

Say = Callable[[str], None]


def refresh(root: Path, say: Say) -> None:
    """Bring the data that stages of `root` read up to date; whoever calls holds the project's lock. `say` is told what was done."""
    files = list(dict.fromkeys(file for path in watched.paths(root) for file in tracked_by(root, path)))
    free = following.follow(root, files, say)  # `dvc update` would take away what somebody has changed by hand
    _update(root, [file for file in free if "deps" in lineage.parse((root / file).read_text())], say)
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
    """Fetch again what has changed at its source, by its ETag or checksum; nothing else is touched.

    `dvc update` takes the old data away before it fetches, so it is called only where the source answers, and the old data are put
    back where fetching fails all the same.
    """
    for file in files:
        here = "so the run goes on with the data that are there"
        try:
            if not _has_changed(root, file):
                continue
            named = following.seen(root, file).named
        except ValueError as error:
            say(f"the source of {file} could not be asked, {here}: {error}")
            continue
        following.note(root, file, named, coming=True)
        done = tracking.dvc(root, "update", file)
        if done.returncode == 0:
            following.note(root, file, following.seen(root, file).named)
            say(f"the source of {file} has changed: the new data were fetched")
            continue
        if tracking.dvc(root, "checkout", file).returncode == 0:
            following.note(root, file, named)
        say(f"the source of {file} has changed but could not be fetched, {here}: {last_error_of_dvc(done.stderr)}")


def _has_changed(root: Path, file: str) -> bool:
    """Whether the source of imported data has changed. Raises ValueError with DVC's words when it does not answer."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            found = [dependency.workspace_status() for dependency in repo.stage.load_one(str(root / file)).deps]
    except (DvcException, OSError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if any("deleted" in states.values() for states in found):
        raise ValueError("nothing is there any more")
    return any(found)
