"""What there is to tell from: dvc.lock and the records among the results, read once; a record that is missing is named."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from flows import lineage, records
from flows.records import PULL, RESTORE, RecordError
from flows.why import git, hashes

STAGES = ("export", "train", "search", "prepare")
"""The stages that a chain goes through, from the file back."""
LOCK = "dvc.lock"
_SHOWN = 12


@final
@dataclass(frozen=True)
class Locked:
    """A stage as dvc.lock holds it: hashes of what it read and wrote by path, and its settings."""

    reads: Mapping[str, str] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Evidence:
    """What a project says of its results. `records` holds the JSON files below results, by path; one that cannot be read is absent.

    `in_git`: the results that dvc.yaml leaves to Git.
    """

    root: Path
    locked: Mapping[str, Locked]
    records: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, str]
    in_git: Collection[str] = ()

    def record(self, path: str) -> Mapping[str, Any]:
        """A record, such as `export/manifest.json`; empty where there is none, which `missing` says."""
        return self.records.get(path, {})

    def gone(self, path: str) -> str:
        """That a result is missing, and how to bring it back."""
        return f"{path} is missing: {self._from_git(path) or PULL}"

    def altered(self, path: str) -> str:
        """That a result is not the one that was made, and how to bring that back."""
        return f"{path} is not what dvc.lock says the stage wrote: it was altered since; {self._from_git(path) or RESTORE}"

    def _from_git(self, path: str) -> str:
        """How Git brings a result back; empty where DVC keeps it."""
        if path not in self.in_git:
            return ""
        if git.content(self.root, "HEAD", path) is None:
            return "Git is to keep it, but no commit holds it: run `nasflow run`, and commit it"
        return f"bring it back with `git checkout HEAD -- {path}`, or run `nasflow run`"


RECORDS = ("export/manifest.json", "train/architecture.json", "train/details.json", "search/best.json", "prepare/dataset.json")


def gather(root: Path) -> Evidence:
    """Read what a chain is told from. Raises ValueError where nothing was ever run here."""
    if not (root / LOCK).exists():
        known = git.content(root, "HEAD", LOCK) is not None
        cure = f"restore it with `git checkout HEAD -- {LOCK}`" if known else "call it in the folder of a project that ran"
        raise ValueError(f"{root} holds no {LOCK}, so nothing says how its results were made: {cure}")
    found, missing = {}, {}
    for name in RECORDS:
        try:
            found[name] = records.read(root / "results" / name)
        except RecordError as error:
            missing[name] = str(error)
    stages = lineage.declared(root).values() if (root / "dvc.yaml").exists() else ()
    in_git = [path for stage in stages for path in stage.in_git]
    return Evidence(root, read_lock(root), found, missing, in_git)


def read_lock(root: Path) -> dict[str, Locked]:
    """The stages of a project's dvc.lock by name. Raises ValueError when it is none."""
    try:
        stages = lineage.load(root / LOCK).get("stages") or {}
        return {name: _locked(entry) for name, entry in stages.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{LOCK} is not what DVC writes: restore it from Git with `git checkout HEAD -- {LOCK}`") from error


def _locked(entry: Mapping[str, Any]) -> Locked:
    reads, writes = ({item["path"]: str(item["md5"]) for item in entry.get(kind) or [] if "md5" in item} for kind in ("deps", "outs"))
    settings = {name: value for values in (entry.get("params") or {}).values() for name, value in values.items()}
    return Locked(reads, writes, settings)


def untold(path: str) -> list[str]:
    """That something is told from a record that cannot be read; the link of its stage says why, and how to bring it back."""
    return [f"this is told from results/{path}, which cannot be read"]


def of_stage(evidence: Evidence, stage: str, needed: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Hold what a stage read and wrote to dvc.lock; returns what is broken, and what could not be checked.

    `needed`: the results that the chain is told from, beside the records. Others may be left in the remote.
    """
    locked = evidence.locked.get(stage)
    if locked is None:
        return [f"dvc.lock has no entry for the stage {stage}: restore it from Git, or run `nasflow run`"], []
    broken = lineage.verify(evidence.root, stage) if (evidence.root / "results" / stage / "lineage.json").exists() else []
    broken += [*_read_as_written(evidence, stage, locked)]
    unchecked: list[str] = []
    for path, recorded in locked.writes.items():
        found = hashes.of_path(evidence.root / path)
        if sentence := evidence.missing.get(path.removeprefix("results/")):
            broken.append(sentence)
        elif found is None:
            (broken if path.removeprefix(f"results/{stage}/") in needed else unchecked).append(evidence.gone(path))
        elif found != recorded:
            broken += [
                evidence.altered(one) if (evidence.root / one).exists() else evidence.gone(one)
                for one in hashes.altered(evidence.root, path, recorded)
            ]
    return broken, unchecked


def _read_as_written(evidence: Evidence, stage: str, locked: Locked) -> Iterator[str]:
    """Whether a stage read what the stage before it had written."""
    for path, read in locked.reads.items():
        for maker, other in evidence.locked.items():
            written = other.writes.get(path)
            if written is not None and written != read:
                yield (
                    f"{stage} read {path} as {read[:_SHOWN]}, but {maker} wrote {written[:_SHOWN]} (dvc.lock): the results before it were "
                    "made again since; run `nasflow run`"
                )
