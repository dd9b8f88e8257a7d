"""Whether a result comes out again: how two results compare, and what has changed since the first one was made."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, final

import torch
from pydantic import BaseModel, ValidationError

from flows import environment
from flows.records import as_written
from flows.why import evidence, hashes
from nas import checkpoint
from nas.components import sentences
from nas.data.dataset import DESCRIPTION_FILE, array_file

TOLERANCE = 0.01
"""How far numbers may be apart to be called equal: absolute, relative where the recorded one is beyond 1."""
Answer = Literal["bit-identical", "equal within tolerance", "differs"]
_MISSING = "nothing"
_EXACT = 2.0**53
"""Below it every whole number is one float, so that it can be shown without a fraction."""
_Settings = TypeVar("_Settings", bound=BaseModel)


@final
class UnverifiableError(RuntimeError):
    """What was asked for cannot be made again by itself; the message says why, and how to check it all the same."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. `rows` are the figures; `changed` names the inputs that are not what they were, one sentence each.

    `settings`: settings of params.yaml that are others now; those of the record were used, so they explain nothing.
    """

    title: str
    answer: Answer
    rows: Sequence[tuple[str, str]]
    changed: Sequence[str]
    settings: Sequence[str]
    tolerance: float

    @property
    def code(self) -> int:
        """The exit code: 0 where both are equal, at least within the tolerance, else 1."""
        return int(self.answer == "differs")

    def sentence(self) -> str:
        """The answer, in one sentence."""
        if self.answer == "bit-identical":
            return f"{self.title}: bit-identical"
        if self.answer == "equal within tolerance":
            within = f"{self.title}: equal within tolerance ({self.tolerance:g}, relative beyond 1)"
            return within + self._causes("although this input changed")
        if self.changed:
            return f"{self.title}: differs{self._causes('and this input changed')}"
        same = "the data that it read, the code and the environment are those of the record"
        return f"{self.title}: differs, although {same}: please report this"

    def _causes(self, words: str) -> str:
        return f", {words}: {'; '.join(self.changed)}" if self.changed else ""


def restored(kind: type[_Settings], recorded: Mapping[str, Any]) -> _Settings:
    """Return settings as they were. Raises UnverifiableError when this version does not take them any more."""
    try:
        return kind.model_validate(recorded)
    except ValidationError as error:
        lines = "; ".join(sentences(error, kind))
        raise UnverifiableError(f"the record has settings of another version ({lines}): verify it with the version that made it") from error


def judge(recorded: Mapping[str, float], again: Mapping[str, float], tolerance: float) -> Answer:
    """Compare numbers by name, to the last bit and within a tolerance."""
    if recorded.keys() != again.keys():
        return "differs"
    if all(_same_bits(value, again[name]) for name, value in recorded.items()):
        return "bit-identical"
    close = all(_close(value, again[name], tolerance) for name, value in recorded.items())
    return "equal within tolerance" if close else "differs"


def figures(recorded: Mapping[str, float], again: Mapping[str, float]) -> list[tuple[str, str]]:
    """One row per number: the recorded one, the new one and what lies between them."""
    rows = []
    for name in dict.fromkeys([*recorded, *again]):
        before, after = recorded.get(name), again.get(name)
        if before is None or after is None:
            rows.append((name, f"{_shown(before)} recorded, {_shown(after)} now"))
        elif _same_bits(before, after):
            rows.append((name, f"{_shown(before)}, the same bits"))
        else:
            rows.append((name, f"{_shown(before)} recorded, {_shown(after)} now: {after - before:+.3g}"))
    return rows


def weights(recorded: Path, again: Path) -> tuple[bool, str]:
    """Whether two files of weights are equal byte for byte, and what to say of it; both exist, as safetensors or as checkpoints."""
    if recorded.read_bytes() == again.read_bytes():
        return True, f"{recorded.stat().st_size} bytes, all equal"
    before, after = (dict(_tensors("", _load(path))) for path in (recorded, again))
    shared = [name for name in before if name in after and before[name].shape == after[name].shape]
    if len(shared) < len(before) or len(shared) < len(after):
        return False, "other tensors than those recorded"
    largest = max(
        (float((before[name].double() - after[name].double()).abs().max()) for name in shared if before[name].numel()), default=0.0
    )
    count = sum(not torch.equal(before[name], after[name]) for name in shared)
    return False, f"{count} of {len(shared)} tensors differ, by {largest:.3g} at most"


def changes(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what differs between the inputs of a run and those that it would have now: causes, and settings of params.yaml.

    Both are what `flows.run_folder.hold` was given. Settings, task, space and architecture are taken from the record whatever
    params.yaml says, so they are no causes.
    """
    causes, settings = [], []
    for name, before, after in _leaves("", recorded, present):
        part = name.split(".")[0]
        if part == "data":
            causes.append(f"data: results/prepare holds {after[:16]} now, not {before[:16]}")
        elif part == "code":
            causes.append(f"code: {name.removeprefix('code.')}")
        elif part == "files":  # those of the record, whatever params.yaml names now; an older record does not tell
            causes += [f"file: {name.removeprefix('files.')}"] if "." in name else []
        elif part != "device":  # which is part of the environment
            settings.append(f"{name.removeprefix('settings.')} {after} now, {before} in the record")
    return causes, settings


def altered_data(root: Path, read: Mapping[str, str], splits: Sequence[str]) -> list[str]:
    """Return which prepared files of these splits are not, byte for byte, what a stage read: causes; `read` are the `deps` of its lineage.

    DVC would not read a file again whose time and size are as they were.
    """
    names = [DESCRIPTION_FILE, *(array_file(split, part) for split in splits for part in ("inputs", "targets"))]
    paths = [f"results/prepare/{name}" for name in names]
    return [f"data: {path} is not what was read then" for path in paths if path in read and hashes.of_path(root / path) != read[path]]


def altered_results(root: Path, stage: str, names: Sequence[str]) -> list[str]:
    """Return which results of a stage are not, byte for byte, those in dvc.lock: causes; none where dvc.lock is about another run of it."""
    locked = evidence.read_lock(root).get(stage) if (root / evidence.LOCK).exists() else None
    if locked is None:
        return []
    found = {path: hashes.of_path(root / path) for path in (f"results/{stage}/{name}" for name in ("lineage.json", *names))}
    told, *others = found  # the lineage is another one after every run
    if found[told] != locked.writes.get(told):
        return []
    return [f"file: {path}" for path in others if path in locked.writes and found[path] != locked.writes[path]]


def worked_in(known: Sequence[Mapping[str, Any]], trials: Sequence[int], workers: int) -> list[Mapping[str, Any]]:
    """Return the environments of a search in which any of these trials may have been computed, in part at least.

    `known`: as `flows.run_folder.environments` returns it. The `workers` trials that ran when an environment ended were continued
    in the next one, from checkpoints where they had some.
    """
    ends = [*(entry.get("trials", 0) + workers for entry in known[1:]), math.inf]
    return [entry for entry, end in zip(known, ends, strict=False) if any(entry.get("trials", 0) <= trial < end for trial in trials)]


def environment_changes(known: Sequence[Mapping[str, Any]], device: str) -> list[str]:
    """Return in which ways the present environment is not those that a result was computed in; threads are pinned before."""
    if not known:
        return ["the environment was not recorded"]
    present = environment.present(device)
    found = [words for entry in reversed(known) for words in environment.differences(entry["environment"], present)]
    return list(dict.fromkeys(found))


def _same_bits(one: float, other: float) -> bool:
    return struct.pack("<d", one) == struct.pack("<d", other)


def _close(one: float, other: float, tolerance: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return abs(one - other) <= tolerance * max(1.0, abs(one))


def _shown(value: float | None) -> str:
    if value is None:
        return _MISSING
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < _EXACT else repr(value)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return checkpoint.load(path)


def _tensors(prefix: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a checkpoint by their path."""
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _tensors(f"{prefix}.{name}", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors(f"{prefix}.{number}", item)


def _leaves(prefix: str, was: Any, now: Any) -> Iterator[tuple[str, str, str]]:
    """Where two JSON values differ: path, before, after. Code is compared file by file, whatever dots their names hold."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*was, *now]):
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), was.get(key, _MISSING), now.get(key, _MISSING))
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for index, (before, after) in enumerate(zip(was, now, strict=True)):
            yield from _leaves(f"{prefix}.{index}", before, after)
    elif was != now:
        yield prefix, as_written(was), as_written(now)
