"""The runs of a project: what they are, which of them results refer to, and how those that nobody needs are removed."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows import locks, run_state
from flows.tracking import WORK
from nas import journal
from nas.trial import Trial

_FOLDER = re.compile(r"(?P<stage>.+)-(?P<fingerprint>[0-9a-f]{16})")
_ASIDE = "removed-"


@dataclass(frozen=True, slots=True)
class Run:
    """A run on disk. `done` of `planned` are trials, or seeds of a training; None where nobody knows.

    `best` is the `metric` of the best trial or of the seed that ships. `changed` is the time of the last change, in seconds since 1970.
    `needed_by` names what refers to the run. `note` says why a run failed, or that its journal is damaged.
    """

    stage: str
    fingerprint: str
    path: Path
    state: str
    done: int | None
    planned: int | None
    metric: str | None
    best: float | None
    bytes: int
    changed: float
    needed_by: tuple[str, ...]
    note: str = ""

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name


def find(root: Path) -> list[Run]:
    """Return the runs of a project, the last changed first. Raises ValueError as `referred` does."""
    needed = referred(root)
    runs = []
    for folder, stage in _folders(root):
        with suppress(FileNotFoundError):  # it is being removed
            runs.append(_read(folder, stage, needed.get(folder.name, ())))
    return sorted(runs, key=lambda run: run.changed, reverse=True)


def referred(root: Path) -> dict[str, tuple[str, ...]]:
    """Return what refers to a run, by the name of its folder: results that were made by it, and searches that begin with its best.

    Results that DVC has put aside, while a stage is made anew or on another branch, count by their entry in dvc.lock.

    Raises ValueError when params.yaml, dvc.lock or a record among the results cannot be read: nobody knows then what it names.
    """
    found: dict[str, tuple[str, ...]] = {}
    for place, name in [*_of_results(root / "results"), *_of_lock(root), *_of_params(root / "params.yaml")]:
        found[name] = tuple(dict.fromkeys([*found.get(name, ()), place]))
    return found


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a run is to be removed, and why it is kept when it is not."""

    run: Run
    kept: str = ""


def decide(root: Path, unfinished: bool) -> list[Decision]:
    """Decide for every run; `unfinished`: those that were killed, stopped or failed may go, too. Raises ValueError as `find` does."""
    return [Decision(run, _reason(run, unfinished)) for run in find(root)]


def remove(root: Path, run: Run) -> int:
    """Remove a run and return how many bytes that freed; 0 when it is held, or needed by now.

    The folder is moved aside while it is held, and then removed: a kill in between leaves no half of a run, and a run that starts
    meanwhile starts in a folder of its own. Raises ValueError as `find` does, OSError when the disk refuses.
    """
    sweep(root)
    if not run.path.exists():
        return 0
    try:
        with locks.exclusive(run.path):
            if run.name in referred(root):  # published since it was listed
                return 0
            freed = _size(run.path)
            run.path.rename(run.path.with_name(_ASIDE + run.name))
    except locks.HeldError:
        return 0
    sweep(root)
    return freed


def sweep(root: Path) -> None:
    """Remove what was moved aside, now or by a removal that was killed."""
    for path in (root / WORK).glob(f"{_ASIDE}*"):
        shutil.rmtree(path, ignore_errors=True)


def _reason(run: Run, unfinished: bool) -> str:
    if run.state == run_state.RUNNING:
        return "it is running"
    if run.needed_by:
        return f"needed by {', '.join(run.needed_by)}"
    if run.state != run_state.FINISHED and not unfinished:
        return f"it {run_state.WORDS[run.state]}: `--all` removes those, too"
    return ""


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    for folder in sorted((root / WORK).glob("*-*")):
        match = _FOLDER.fullmatch(folder.name)
        if match and folder.is_dir() and not folder.name.startswith(_ASIDE):
            yield folder, match["stage"]


def _read(folder: Path, stage: str, needed_by: tuple[str, ...]) -> Run:
    state = run_state.read(folder)
    about, note = state.about, state.reason
    done, planned, best = None, about.get("trials"), about.get("best")
    try:
        if stage == "train":
            done, planned = len(list(folder.glob("seed-*.safetensors"))), _seeds(folder)
        elif (folder / "journal.jsonl").exists():
            trials = journal.read(folder)
            done, best = sum(not (trial.rejected or _is_look(trial, about)) for trial in trials), _best(trials, about)
    except (journal.JournalError, ValueError, OSError) as error:
        note = note or f"cannot be read: {error}"
    changed = max(_changes(folder), default=folder.stat().st_mtime)
    fingerprint, metric = folder.name.rpartition("-")[2], about.get("metric")
    name = metric.removeprefix("-") if metric else None
    return Run(stage, fingerprint, folder, state.name, done, planned, name, best, _size(folder), changed, needed_by, note)


def _seeds(folder: Path) -> int | None:
    """From how many seeds is trained; None for a run that was killed before it noted that."""
    seeds = _json(folder / "inputs.json").get("settings", {}).get("seeds")
    return None if seeds is None else len(seeds)


def _best(trials: list[Trial], about: Mapping[str, Any]) -> float | None:
    """The first metric of the best trial that can be compared."""
    name = str(about.get("metric", "")).removeprefix("-")
    done = [trial for trial in trials if trial.status == "done" and (not about.get("looks") or trial.proposal.steps == 0)]
    best = max(done, key=lambda trial: (trial.score, -trial.number), default=None)
    return best.report.metrics.get(name) if best is not None and best.report is not None else None


def _is_look(trial: Trial, about: Mapping[str, Any]) -> bool:
    return bool(about.get("looks")) and trial.proposal.steps == 0


def _of_results(results: Path) -> Iterator[tuple[str, str]]:
    """Which results name which runs."""
    for stage in ("search", "train", "export"):
        record = _record(results / stage / "lineage.json")
        yield from ((f"results/{stage}", str(name)) for name in record.get("runs", ()))
    # What versions that did not note their runs have published, and where the winner that ships was found.
    for stage, path in (("search", "best.json"), ("train", "architecture.json"), ("export", "manifest.json")):
        record = _record(results / stage / path)
        name = record.get("search") or record.get("metadata", {}).get("search")
        if name:
            yield f"results/{stage}", f"search-{name}"


def _of_lock(root: Path) -> Iterator[tuple[str, str]]:
    """Which runs have published what dvc.lock names."""
    stages = (_yaml(root / "dvc.lock") or {}).get("stages") or {}
    outputs = [output for stage in stages.values() for output in stage.get("outs", ())]
    locked = {output.get("md5") for output in outputs if str(output.get("path", "")).endswith("/lineage.json")}
    for folder, _ in _folders(root):
        if locked.intersection(run_state.read(folder).about.get("published", ())):
            yield "dvc.lock", folder.name


def _of_params(path: Path) -> Iterator[tuple[str, str]]:
    """Which runs params.yaml wants to start from."""
    document = _yaml(path)
    search = document.get("search") if isinstance(document, dict) else None
    for entry in search if isinstance(search, list) else [search]:
        named = entry.get("warm_start") if isinstance(entry, dict) else None
        for place in named if isinstance(named, list) else []:
            yield "params.yaml", Path(str(place).removesuffix("/journal.jsonl")).name


def _yaml(path: Path) -> Any:
    try:
        return YAML(typ="safe").load(path.read_text()) if path.exists() else None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not valid YAML, so nobody knows which runs it names: correct it") from error


def _record(path: Path) -> dict[str, Any]:
    """What a file among the results holds; nothing where there is none. Raises ValueError when it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged, so nobody knows which runs it names: run the stage again")
    return content


def _json(path: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else {}
    return {}


def _changes(folder: Path) -> Iterator[float]:
    """When each file of a run was last changed; its lock changes whenever somebody looks in."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a running search replaces and removes files
            if path.is_file() and path.name != "lock":
                yield path.stat().st_mtime


def _size(folder: Path) -> int:
    """Bytes that a folder takes on disk."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.lstat().st_blocks * 512
    return total
