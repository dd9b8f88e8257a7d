"""The end of a chain: settings and code as the commit holds them that also holds dvc.lock, and what a clone needs beside these."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows import lineage
from flows.records import as_written
from flows.why import data, git
from flows.why.chain import Link, counted, listed
from flows.why.evidence import LOCK, STAGES, Evidence

_PARAMS, _CODE = "params.yaml", ("nas", "flows", "export")
_STAGES, _REMOTES = "dvc.yaml", ".dvc/config"
_NAMED = 4
"""So many files are named that a commit lacks."""


def committed(evidence: Evidence) -> tuple[Link, Link, Link]:
    """The links of the settings, the code and the commit."""
    root = evidence.root
    commit = git.last_commit(root, LOCK)
    held = commit is not None and git.content(root, "HEAD", LOCK) == (root / LOCK).read_bytes()
    at = commit.name if commit is not None and held else None
    facts = []
    if commit is not None and held:
        facts = [("commit", commit.name), ("author", commit.author), ("date", commit.date), ("message", commit.subject)]
        facts.append(("working copy", _since(evidence)))
        title = f"recorded in commit {commit.name[:10]}: {commit.subject}"
    else:
        title = "recorded in no commit yet"
    return _settings(evidence, at), _code(evidence, at), Link("commit", title, facts, (), _uncommitted(evidence, held))


def _uncommitted(evidence: Evidence, held: bool) -> list[str]:
    """What a fresh clone would lack of what Git has to keep, with the commands that commit all of it."""
    root, kept = evidence.root, [*_kept(evidence)]
    add = " ".join(["git add", *(path for path in kept if (root / path).exists())])
    commit = 'git commit -m "Results"'
    if git.ask(root, "rev-parse", "HEAD") is None:
        begin = "" if _under_git(root) else "git init && "
        lacks, commands = "this is no Git repository with commits", f"{begin}{add} {' '.join(_CODE)} && {commit}"
    elif not held:
        lacks, commands = "no commit holds this dvc.lock", f"{add} && {commit}"
    elif lost := [path for path in kept if not _is_committed(evidence, path)]:
        again = "" if all((root / path).exists() for path in lost) else "run `nasflow run`, then "
        few = lost if len(lost) <= _NAMED else [*lost[:_NAMED], f"{counted(len(lost) - _NAMED, 'other')}"]
        what = f"the last commit lacks {listed(few)} as the results need it"
        return [f"{what}, so stages would run again in a fresh clone: {again}`{add} && {commit}`"]
    else:
        return []
    return [f"{lacks}, so a fresh clone could not tell where the model comes from: commit it with `{commands}`"]


def _kept(evidence: Evidence) -> Iterator[str]:
    """What Git has to hold of a project that ran, beside its code."""
    yield from (_STAGES, LOCK, _PARAMS)
    yield from (path for path in [_REMOTES, *data.notes(evidence)] if (evidence.root / path).exists())
    yield from (path for path in evidence.in_git if _recorded(evidence, path))


def _recorded(evidence: Evidence, path: str) -> str | None:
    """The hash of a result in dvc.lock; None where no stage wrote it."""
    return next((locked.writes[path] for locked in evidence.locked.values() if path in locked.writes), None)


def _is_committed(evidence: Evidence, path: str) -> bool:
    """Whether the last commit holds a file such that a clone of it has nothing to run."""
    root, content = evidence.root, git.content(evidence.root, "HEAD", path)
    if content is None:
        return False
    if path in evidence.in_git:
        return git.hashes_at(root, "HEAD", [path])[path] == _recorded(evidence, path)
    if path == _PARAMS:
        return True  # its values are held to dvc.lock by themselves
    here = (root / path).read_bytes() if (root / path).exists() else None
    return content == here or (path == _STAGES and here is not None and _same_stages(content, here))


def _same_stages(one: bytes, other: bytes) -> bool:
    """Whether two contents of dvc.yaml differ in nothing that counts for what runs again."""
    try:
        first, second = (lineage.stages_of(lineage.parse(content.decode())) for content in (one, other))
    except ValueError:
        return False
    return first == second


def _under_git(root: Path) -> bool:
    return git.ask(root, "rev-parse", "--git-dir") is not None


def _settings(evidence: Evidence, at: str | None) -> Link:
    """Whether params.yaml holds the settings that dvc.lock says the stages ran with."""
    text = git.content(evidence.root, at, _PARAMS) if at else None
    where = f"params.yaml in commit {at[:10]}" if at and text is not None else _PARAMS
    used = {f"{stage}: {name}": value for stage in STAGES for name, value in _locked(evidence, stage).items()}
    facts = [(name, _short(value)) for name, value in used.items()]
    title = "run with the settings of params.yaml"
    try:
        written = lineage.parse(text.decode() if text is not None else (evidence.root / _PARAMS).read_text())
    except (OSError, ValueError, UnicodeDecodeError) as error:
        return Link("settings", title, facts, [f"{where} cannot be read ({error}): restore it from Git"])
    broken = []
    for stage in STAGES:
        for name, value in _locked(evidence, stage).items():
            present = _at(written, name)
            different = [path for path, *_ in lineage.leaves(name, value, present)]
            broken += [
                f"{stage} ran with another {path} than {where} has: run `nasflow run`, and commit what it made" for path in different
            ]
    return Link("settings", title, facts, broken)


def _locked(evidence: Evidence, stage: str) -> Mapping[str, Any]:
    locked = evidence.locked.get(stage)
    return locked.settings if locked is not None else {}


def _code(evidence: Evidence, at: str | None) -> Link:
    """Whether the code that dvc.lock says the stages read is in the commit, or, before there is one, in the working copy."""
    reads = {path: digest for stage in STAGES for path, digest in _reads(evidence, stage)}
    title, facts = "made by this code", [("paths", f"{len(reads)} files and folders, each with its hash in dvc.lock")]
    if not _under_git(evidence.root):
        return Link("code", title, facts, (), ["this is no Git repository, so the code was not compared: keep the project under Git"])
    where = f"commit {at[:10]}" if at else "the working copy"
    found = git.hashes_at(evidence.root, at, list(reads)) if at else git.hashes_now(evidence.root, list(reads))
    broken = [
        f"{path} {'is not in ' + where if found[path] is None else 'in ' + where + ' is not what the stages ran'}: "
        "the code that made the model is not the code that was kept; run `nasflow run`, and commit code and dvc.lock together"
        for path, digest in reads.items()
        if found[path] != digest
    ]
    return Link("code", title, [*facts, ("compared with", where)], broken)


def _reads(evidence: Evidence, stage: str) -> Iterator[tuple[str, str]]:
    locked = evidence.locked.get(stage)
    for path, digest in (locked.reads if locked is not None else {}).items():
        if path.split("/")[0] in _CODE:
            yield path, digest


def _since(evidence: Evidence) -> str:
    """What was changed in the working copy; it does not touch how the model was made."""
    changed = (git.ask(evidence.root, "status", "--porcelain", "--", *_CODE, _PARAMS) or b"").decode().splitlines()
    if not changed:
        return "as committed"
    names = ", ".join(line[3:] for line in changed[:3])
    more = " and others" if len(changed) > 3 else ""
    return f"{counted(len(changed), 'file')} changed since ({names}{more}), which the model knows nothing of"


def _at(document: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name; None where there is none, which a setting may be, too."""
    value: Any = document
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(value: Any) -> str:
    """A section by its few words: the names of its components, or its plain values."""
    if not isinstance(value, Mapping):
        return as_written(value)
    words = [f"{key} {part.get('name', '…') if isinstance(part, Mapping) else as_written(part)}" for key, part in value.items()]
    text = ", ".join(words)
    return text if len(text) <= 200 else f"{text[:199]}…"
