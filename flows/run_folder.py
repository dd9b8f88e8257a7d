"""One run, one folder: `.nasflow/<stage>-<fingerprint>/`, named by everything that determines the result.

The same inputs continue where a killed run stopped, or are done already; other inputs are another folder. What is finished is
published to `results/<stage>/` in two renames, the first undone at the next start, so results are there whole or not at all.
"""

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import console, environment, run_state
from flows.ending import finish_first
from flows.lineage import changes
from flows.locks import HeldError, exclusive, now
from flows.tracking import WORK
from nas import atomic, journal

FORMAT_VERSION = 1
"""Raise when the same inputs would give another result."""


ENVIRONMENTS = "environment.json"
_HALF_WRITTEN = re.compile(r"\..+\.[a-z0-9_]{8}")
"""How `nas.atomic` names a file that is not whole yet."""


class RunError(RuntimeError):
    """A run that cannot begin; the message says who or what is in the way."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, held by this process.

    `environments`: those in which the run was worked on, in order, as `environment.json` holds them.
    """

    stage: str
    fingerprint: str
    path: Path
    inputs: Mapping[str, Any]
    environments: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that name these inputs and the format version; inputs are JSON values."""
    text = json.dumps({"format": FORMAT_VERSION, **inputs}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def hold(root: Path, stage: str, inputs: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Iterator[RunFolder]:
    """Make or reopen the folder of a run and hold it until the end; the system lets go of it when the process dies.

    How the run stands is in its `state.json` all the while, with what the stage tells in `about`: `trials`, how many are planned,
    `metric`, by which the best is chosen, `looks`, which says that only trials without steps are compared, and `device`, where it is
    not that of the inputs. After what a run goes on, and whether exactly, is said. Raises RunError when another process holds the same run.
    """
    with contextlib.suppress(HeldError), exclusive(_desk(root, stage)):  # who publishes right now has nothing to be undone
        _undo(root, stage)
    name = fingerprint(inputs)
    path = root / WORK / f"{stage}-{name}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path))
        except HeldError as error:
            raise RunError(f"{stage} with these settings is being run by {error}") from error
        before = stack.enter_context(run_state.noted(path, about or {}))
        atomic.write_json(path / "inputs.json", dict(inputs))
        _remove_half_written(path)
        known = _note_environment(path, environment.present(str((about or {}).get("device", inputs.get("device", "cpu")))))
        if line := _continues(before, known):
            console.say(f"{stage} {name}: {line}")
        yield RunFolder(stage, name, path, inputs, known)


def origin(*folders: RunFolder) -> dict[str, Any]:
    """Return what the lineage of results says of the runs that made them: their names, and inputs and environments of the last."""
    last = folders[-1]
    return {"runs": [folder.name for folder in folders], "inputs": dict(last.inputs), "environments": [*last.environments]}


def environments(folder: Path) -> list[dict[str, Any]]:
    """Return the environments in which a run was worked on, oldest first: {"since", "trials": how many there were, "environment"}."""
    try:
        known: list[dict[str, Any]] = json.loads((folder / ENVIRONMENTS).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return known


def _note_environment(folder: Path, present: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Note the present environment where the run was not worked on in it last."""
    known = environments(folder)
    if not known or known[-1]["environment"] != present:
        try:
            trials = len(journal.read(folder))
        except (FileNotFoundError, journal.JournalError):  # trains, has not begun, or is refused when it is resumed
            trials = 0
        known.append({"since": now(), "trials": trials, "environment": dict(present)})
        atomic.write_json(folder / ENVIRONMENTS, known)
    return known


def _continues(before: run_state.State, known: Sequence[Mapping[str, Any]]) -> str:
    """What goes on after which end, and whether exactly; empty for a run that begins or was done."""
    ends = {
        run_state.KILLED: f"was killed (process {before.pid}, running since {before.since})",
        run_state.PAUSED: f"was stopped by {before.reason} ({before.since})",
        run_state.FAILED: f"had failed ({before.reason})",
    }
    present = known[-1]["environment"]
    changed = environment.differences(known[0]["environment"], present)
    if before.name not in ends and not (changed and before.name == run_state.FINISHED):
        return ""
    if changed:
        guarantee = f"continues under {', '.join(changed)}: what is computed from here on may differ in the last bits"
    elif len(known) > 1:
        guarantee = (
            "continues in the environment that it began in; what was computed in between, in another one, may differ in the last bits"
        )
    elif present["device"] == "cpu":
        guarantee = "continues exactly, in the environment that it began in"
    else:
        guarantee = f"continues on {present['device']}: figures agree with those of a run without a stop up to float noise"
    return f"{ends[before.name]}; {guarantee}" if before.name in ends else guarantee


def _remove_half_written(folder: Path) -> None:
    """Remove the files that a killed process was writing; nobody else writes here now."""
    for path in folder.rglob(".*"):
        if _HALF_WRITTEN.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def publish(root: Path, stage: str, lineage: Mapping[str, Any]) -> Iterator[Path]:
    """Give an empty folder to fill; at the end it becomes `results/<stage>/`, with lineage.json, in place of what was there.

    Takes two renames; what a kill between them leaves is undone when the stage starts again. When filling it raises, the published
    results stay as they were. Raises RunError when another process publishes the stage, and when something that the stage read at
    its start has changed since: DVC would note the new content as what the results were made from.
    """
    try:
        with exclusive(_desk(root, stage)):
            _undo(root, stage)
            fresh = _desk(root, stage) / "fresh"
            fresh.mkdir()
            try:
                yield fresh
                changed = changes(root, lineage)
                if changed:
                    raise RunError("\n".join([*changed, "nothing was published: run the stage again"]))
                atomic.write_json(fresh / "lineage.json", _timed(lineage))
                digest = hashlib.md5((fresh / "lineage.json").read_bytes(), usedforsecurity=False).hexdigest()
                with finish_first():
                    _swap(root, stage)
                    for name in lineage.get("runs", ()):
                        _note_publication(root / WORK / name, digest)
            finally:
                _undo(root, stage)
    except HeldError as error:
        raise RunError(f"the results of {stage} are being written by {error}") from error


def _timed(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """The lineage with the seconds that the stage took, where it says when it began (`begun`, of the system's steady clock)."""
    known = dict(lineage)
    begun = known.pop("begun", None)
    return known if begun is None else {**known, "seconds": round(time.monotonic() - begun, 1)}


def _note_publication(folder: Path, digest: str) -> None:
    """Note under which hash DVC knows what a run has published: dvc.lock then tells that the run is needed, wherever results are."""
    known = run_state.read_held(folder).about.get("published", [])
    run_state.note(folder, {"published": [*(other for other in known if other != digest), digest]})


def _swap(root: Path, stage: str) -> None:
    """Put what was filled in the place of the results, all of it durable first."""
    desk, results = _desk(root, stage), root / "results" / stage
    results.parent.mkdir(exist_ok=True)
    kept = results / ".gitignore"
    if kept.exists():
        shutil.copy2(kept, desk / "fresh" / ".gitignore")
    atomic.sync_tree(desk / "fresh")
    if results.exists():
        results.rename(desk / "old")
    (desk / "fresh").rename(results)
    for folder in (results.parent, desk):
        atomic.sync_folder(folder)


def _undo(root: Path, stage: str) -> None:
    """Clear away what an earlier publishing left; one that was stopped between its two renames gives the old results back."""
    desk, results = _desk(root, stage), root / "results" / stage
    if (desk / "old").exists() and not results.exists():
        results.parent.mkdir(exist_ok=True)
        (desk / "old").rename(results)
        atomic.sync_folder(results.parent)
    for name in ("fresh", "old"):
        shutil.rmtree(desk / name, ignore_errors=True)


def _desk(root: Path, stage: str) -> Path:
    return root / WORK / f"publish-{stage}"
