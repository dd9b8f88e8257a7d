"""What a stage read, in DVC's own hashes, and whether dvc.lock tells the same story.

DVC hashes dependencies when a command has ended. An edit in between, or `dvc commit -f`, makes dvc.lock describe inputs that never
produced the outputs beside it. So a stage records what it reads when it starts, and the two are compared afterwards.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.records import as_written

MISSING = "nothing"


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml: the paths it reads and the paths it writes, relative to the project's folder.

    `in_git`: those of the written that DVC does not keep (`cache: false`), so that Git has to.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    in_git: tuple[str, ...] = ()


def declared(root: Path) -> dict[str, Stage]:
    """The stages of `root`/dvc.yaml by name, in the order of the file.

    Raises FileNotFoundError without a dvc.yaml, and ValueError when it is damaged or a stage uses foreach, matrix or wdir.
    """
    return stages_of(load(root / "dvc.yaml"))


def stages_of(content: Mapping[str, Any]) -> dict[str, Stage]:
    """The stages of the content of a dvc.yaml. Raises ValueError as `declared` does."""
    return {name: _stage(name, entry) for name, entry in (content.get("stages") or {}).items()}


def choose(known: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """`wanted` in the order of `known`, all of them for None; raises ValueError for a name that is not known."""
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise ValueError(f"dvc.yaml has no stage '{unknown[0]}'; it has: {', '.join(known)}")
    return [name for name in known if wanted is None or name in wanted]


def read(root: Path, stage: str) -> dict[str, Any]:
    """What `stage` reads right now: {"stage", "params": {section: values}, "deps": {path: md5}}, as DVC would write it to dvc.lock.

    DVC itself does the hashing, because it remembers the hash of every unchanged file: large data are not read twice.
    Raises ValueError when `root` is no DVC project, the stage is not in its dvc.yaml, or one of its dependencies is missing.
    """
    from dvc.dependency import ParamsDependency
    from dvc.exceptions import DvcException
    from dvc.progress import Tqdm
    from dvc.repo import Repo

    Tqdm.monitor_interval = 0  # or a thread of its progress bars stays, and processes that have threads cannot be forked
    params: dict[str, Any] = {}
    deps: dict[str, str] = {}
    try:
        with Repo(str(root)) as repo:
            for item in repo.stage.load_one(str(root / "dvc.yaml"), name=stage).deps:
                if isinstance(item, ParamsDependency):
                    params.update(item.read_params())
                else:
                    deps[item.def_path] = item.get_hash().value
    except FileNotFoundError as error:
        missing = str(error.filename).removeprefix(f"{root.resolve()}/")
        cure = (
            "run the stages before it first, with `nasflow run`"
            if missing.startswith("results/")
            else "put it there, or correct params.yaml"
        )
        raise ValueError(f"stage '{stage}' reads {missing}, which does not exist: {cure}") from error
    except (DvcException, OSError) as error:
        raise ValueError(f"what stage '{stage}' reads cannot be recorded: {error}") from error
    record: dict[str, Any] = json.loads(json.dumps({"stage": stage, "params": params, "deps": deps}))
    return record


def changes(root: Path, record: Mapping[str, Any]) -> list[str]:
    """One sentence per input that differs now from what `record` (of `read`) holds; empty when nothing changed.

    A stage that calls this before it publishes, and fails on an answer, keeps dvc.lock true under plain `dvc repro` too.
    Raises ValueError as `read` does.
    """
    return list(_differences(record, read(root, record["stage"]), "is now"))


def verify(root: Path, stage: str) -> list[str]:
    """One sentence per difference between what `stage` recorded at its start and what dvc.lock says; empty when they agree.

    A stage that declares no results/<stage>/lineage.json has nothing to compare. Raises FileNotFoundError without a dvc.yaml.
    """
    path = f"results/{stage}/lineage.json"
    entry = declared(root).get(stage)
    if entry is None or not any(overlap(path, written) for written in entry.writes):
        return []
    lock = _locked(root).get(stage)
    if lock is None:
        return [f"{stage}: dvc.lock has no entry for it. Run it: `nasflow run`."]
    try:
        record = json.loads((root / path).read_text())
    except FileNotFoundError:
        return [f"{stage}: {path} is missing, so nothing proves what its results were made from. Run it again."]
    except ValueError:
        return [f"{stage}: {path} is no JSON. Run the stage again."]
    return list(_differences(record, _as_record(stage, lock), "dvc.lock says"))


def compare(root: Path) -> list[str]:
    """`verify` for every stage that dvc.lock knows."""
    return [sentence for stage in _locked(root) for sentence in verify(root, stage)]


def overlap(one: str, other: str) -> bool:
    """Whether two paths are equal or one holds the other."""
    first, second = Path(one).parts, Path(other).parts
    shared = min(len(first), len(second))
    return first[:shared] == second[:shared]


def parse(text: str) -> dict[str, Any]:
    """The content of a dvc.lock, a dvc.yaml or a params.yaml. Raises ValueError when it is no YAML, or no mapping."""
    # YAML 1.2, as DVC reads it: `1e-3` is a number here and a string for PyYAML.
    try:
        content = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise ValueError("not a mapping in YAML")
    return content or {}


def load(path: Path) -> dict[str, Any]:
    """The content of a dvc.lock or a dvc.yaml. Raises FileNotFoundError, and ValueError when it is damaged, with the cure."""
    try:
        return parse(path.read_text())
    except ValueError as error:  # of the text, or that it is none
        raise ValueError(f"{path.name} is damaged ({error}): restore it from Git with `git checkout HEAD -- {path.name}`") from error


def _locked(root: Path) -> dict[str, Any]:
    path = root / "dvc.lock"
    return (load(path).get("stages") or {}) if path.exists() else {}


def _stage(name: str, entry: Mapping[str, Any]) -> Stage:
    unknown = {"foreach", "matrix", "wdir"} & set(entry)
    if unknown:
        raise ValueError(f"dvc.yaml: stage '{name}' uses {', '.join(sorted(unknown))}; write its stages out one by one")
    written = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    in_git = [item for item in written if isinstance(item, Mapping) and next(iter(item.values())).get("cache") is False]
    return Stage(name, tuple(map(_path, entry.get("deps", []))), tuple(map(_path, written)), tuple(map(_path, in_git)))


def _path(item: str | Mapping[str, Any]) -> str:
    return item if isinstance(item, str) else str(next(iter(item)))


def _as_record(stage: str, lock: Mapping[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for values in (lock.get("params") or {}).values():
        params.update(values)
    deps = {item["path"]: item.get("md5") for item in lock.get("deps") or []}
    record: dict[str, Any] = json.loads(json.dumps({"stage": stage, "params": params, "deps": deps}))
    return record


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], verb: str) -> Iterator[str]:
    stage = was["stage"]
    cause = "it was changed while the stage ran" if verb == "is now" else "it was changed while the stage ran, or by `dvc commit`"
    for name, before, after in leaves("", was["params"], now["params"]):
        yield f"{stage}: setting {name} was {before} when the stage read it, {verb} {after}: {cause}."
    for path in sorted(was["deps"].keys() | now["deps"].keys()):
        before, after = was["deps"].get(path, MISSING), now["deps"].get(path, MISSING)
        if before != after:
            yield f"{stage}: {path} was {before} (md5) when the stage read it, {verb} {after}: {cause}."


def leaves(prefix: str, was: Any, now: Any) -> Iterator[tuple[str, str, str]]:
    """Where two values of a setting differ: the dotted name, and what it was and is, in words."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(was.keys() | now.keys()):
            yield from leaves(f"{prefix}.{key}" if prefix else key, was.get(key, MISSING), now.get(key, MISSING))
    elif was != now or type(was) is not type(now):
        yield prefix, as_written(was), as_written(now)
