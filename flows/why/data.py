"""The data of a chain: the prepared ones by their digest, and the files of the user that they were made from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows import lineage
from flows.records import RESTORE, as_written
from flows.why import hashes
from flows.why.chain import Link
from flows.why.evidence import Evidence, of_stage
from nas.data.dataset import SPLITS, Dataset, array_file
from nas.data.errors import DataError

_PREPARED = "results/prepare"
_OURS = ("nas", "flows", "export", "results")


def prepared(evidence: Evidence) -> Link:
    """The prepared data: the digest in every record is that of the arrays, which are read for it where they are there."""
    described, manifest = evidence.record("prepare/dataset.json"), evidence.record("export/manifest.json")
    digests = _digests(evidence)
    broken, unchecked = of_stage(evidence, "prepare", ())
    if len(set(digests.values())) > 1:
        broken.append(
            "the data's digest differs: " + ", ".join(f"{place} {digest[:16]}" for place, digest in digests.items()) + f"; {RESTORE}"
        )
    if described:
        problem, absent = _recomputed(evidence.root / _PREPARED)
        broken += problem
        unchecked += absent
    digest = next(iter(digests.values()), "not recorded")
    counts = described.get("counts") or manifest.get("data", {}).get("counts", {})
    facts = [("digest", digest), ("splits", ", ".join(f"{name} {count}" for name, count in counts.items()) or "not recorded")]
    if described:
        height, width, channels = described["input_shape"]
        facts.append(("images", f"{height} x {width} x {channels}, {described['input_dtype']}, {len(described['classes'])} classes"))
    return Link("data", "searched, trained and tested on one prepared dataset", facts, broken, unchecked)


def originals(evidence: Evidence) -> Link:
    """The user's files, by the hashes that dvc.lock holds; those that DVC tracks may lie in the remote."""
    locked, settings = evidence.locked.get("prepare"), {}
    if locked is None:
        return Link(
            "source", "the source of the data is not known", (), ["dvc.lock has no entry for the stage prepare: restore it from Git"]
        )
    settings = locked.settings.get("prepare", {}).get("source", {})
    named = settings if isinstance(settings, Mapping) else {"name": settings}
    facts = [(str(name), as_written(value)) for name, value in named.items()]
    broken, unchecked, files = [], [], _files(evidence)
    for path, recorded in files.items():
        facts += [(path, f"md5 {recorded}"), *_imported(path, evidence.root / f"{path}.dvc")]
        found = hashes.of_path(evidence.root / path)
        if found is None:
            unchecked.append(
                f"{path}, which the results were made from, is not here: bring it back with `dvc pull {path}`, where DVC tracks it"
            )
        elif found != recorded:
            broken.append(f"{path} is not what the results were made from: it was changed since; run `nasflow run`, or bring it back")
    return Link("source", f"made from {'the files of the user' if files else 'data that a library brings'}", facts, broken, unchecked)


def notes(evidence: Evidence) -> list[str]:
    """The files by which DVC tracks what the user's files are, or lie in."""
    places = [place for path in _files(evidence) for place in (Path(path), *Path(path).parents)[:-1]]
    return [note for note in dict.fromkeys(f"{place.as_posix()}.dvc" for place in places) if (evidence.root / note).is_file()]


def _digests(evidence: Evidence) -> dict[str, str]:
    """The digest of the data, by who names it."""
    found = {}
    for place, path, keys in (
        ("dataset.json", "prepare/dataset.json", ("digest",)),
        ("the search", "train/architecture.json", ("inputs", "search", "data")),
        ("the training", "train/architecture.json", ("inputs", "train", "data")),
        ("the model", "export/manifest.json", ("metadata", "data_digest")),
    ):
        value: Any = evidence.record(path)
        for key in keys:
            value = value.get(key, {})
        if value:
            found[place] = str(value)
    return found


def _recomputed(folder: Path) -> tuple[list[str], list[str]]:
    """What is wrong with the arrays, and which cannot be read."""
    names = [array_file(split, part) for split in SPLITS for part in ("inputs", "targets")]
    absent = [name for name in names if not (folder / name).exists()]
    if absent:
        return [], [f"{_PREPARED}/{absent[0]} is missing, so the digest of the data was not computed again: `dvc pull {_PREPARED}`"]
    try:
        Dataset.open(folder).verify()
    except DataError as error:
        return [str(error)], []
    return [], []


def _files(evidence: Evidence) -> dict[str, str]:
    """What stages read that is neither code of ours nor a result: the data, the table of an evaluator, code of the user."""
    reads = [pair for locked in evidence.locked.values() for pair in locked.reads.items()]
    return {path: digest for path, digest in reads if path.split("/")[0] not in _OURS}


def _imported(path: str, note: Path) -> Iterator[tuple[str, str]]:
    """Where DVC fetched a file from, where it did."""
    try:
        origins = lineage.parse(note.read_text()).get("deps") or []
    except (OSError, ValueError):
        return
    for origin in origins:
        version = origin.get("etag") or origin.get("checksum") or origin.get("md5") or origin.get("hash")
        yield f"{path} was fetched from", f"{origin.get('path')}{f', version {version}' if version else ''}"
