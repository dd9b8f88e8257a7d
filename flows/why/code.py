"""The end of a chain: settings and code as the commit holds them that also holds dvc.lock, and that commit."""

from collections.abc import Iterator, Mapping
from typing import Any

from flows import lineage
from flows.why import git
from flows.why.chain import Link
from flows.why.evidence import STAGES, Evidence

_LOCK, _PARAMS, _CODE = "dvc.lock", "params.yaml", ("nas", "flows", "export")
_COMMIT = "commit it: `git add dvc.lock params.yaml && git commit`"


def committed(evidence: Evidence) -> tuple[Link, Link, Link]:
    """The links of the settings, the code and the commit."""
    root = evidence.root
    commit = git.last_commit(root, _LOCK)
    held = commit is not None and git.content(root, "HEAD", _LOCK) == (root / _LOCK).read_bytes()
    at = commit.name if commit is not None and held else None
    facts, unchecked = [], []
    if commit is not None and held:
        facts = [("commit", commit.name), ("author", commit.author), ("date", commit.date), ("message", commit.subject)]
        facts.append(("working copy", _since(evidence)))
        title = f"recorded in commit {commit.name[:10]}: {commit.subject}"
    else:
        title = "recorded in no commit yet"
        where = "this is no Git repository with commits" if git.ask(root, "rev-parse", "HEAD") is None else "no commit holds this dvc.lock"
        unchecked = [f"{where}, so a fresh clone could not tell where the model comes from: {_COMMIT}"]
    return _settings(evidence, at), _code(evidence, at), Link("commit", title, facts, (), unchecked)


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
    if git.ask(evidence.root, "rev-parse", "--git-dir") is None:
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
    return f"{len(changed)} files changed since ({names}{' and others' if len(changed) > 3 else ''}), which the model knows nothing of"


def _at(document: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name; None where there is none, which a setting may be, too."""
    value: Any = document
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(value: Any) -> str:
    """A section by its few words: the names of its components, or its plain values."""
    if not isinstance(value, Mapping):
        return str(value)
    words = [f"{key} {part.get('name', '…') if isinstance(part, Mapping) else part}" for key, part in value.items()]
    text = ", ".join(words)
    return text if len(text) <= 200 else f"{text[:199]}…"
