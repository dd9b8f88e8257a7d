"""The folder `released/`: the model in use, and the models that were not good enough to replace it, with the reasons.

    released/current                 the model in use: a link, so that it is replaced at once
    released/models/<sha256>/        every bundle that was considered, with decision.json

DVC removes the outputs of a stage before it runs, so that what is in use cannot lie in `results/`.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from flows.ending import finish_first
from flows.tracking import WORK
from nas import atomic

FOLDER, CURRENT, MODELS, DECISION = "released", "current", "models", "decision.json"
KEPT = 5
"""How many models are kept besides the one in use: the newest, whether they were in use or never."""
_LAST = "promotion.json"
_DIGITS = 16


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """What became of an exported model, and why.

    sha256: of model.onnx. replaces: the SHA-256 of the model in use when it was decided; empty for none. comparison: figures, where two
    models were compared. origin: the search, trial and seed that it comes from, and the digest of its data.
    """

    promoted: bool
    reason: str
    sha256: str
    when: str
    replaces: str = ""
    comparison: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The decision for a person, on one line."""
        if self.sha256 == self.replaces:
            return f"model {self.sha256[:_DIGITS]} stays released: {self.reason}"
        return f"model {self.sha256[:_DIGITS]} is {'released' if self.promoted else 'kept as a candidate'}: {self.reason}"

    def markdown(self) -> str:
        """The decision as a page."""
        rows = [("model", self.sha256), ("replaces" if self.promoted else "in use", self.replaces or "nothing"), ("decided", self.when)]
        rows += [(name, str(value)) for name, value in (*self.comparison.items(), *self.origin.items())]
        return "\n".join([f"### {self.sentence}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def current(root: Path) -> Path | None:
    """The folder of the model in use; None before the first release."""
    link = root / FOLDER / CURRENT
    return link.resolve() if (link / "model.onnx").is_file() else None


def decision_of(folder: Path) -> Decision:
    """What was decided of the model in a folder. Raises ValueError when it is not told, or not in this form."""
    try:
        return Decision(**json.loads((folder / DECISION).read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise ValueError(f"{folder / DECISION} does not say why the model is there: release it again with `nasflow promote`") from error


def candidates(root: Path) -> list[Decision]:
    """What was decided of every model that is there and not in use, newest first."""
    used = current(root)
    folders = (path for path in (root / FOLDER / MODELS).glob("[0-9a-f]*") if path.is_dir() and path.resolve() != used)
    return sorted((decision_of(path) for path in folders), key=lambda decision: decision.when, reverse=True)


def place(root: Path, bundle: Path, decision: Decision) -> None:
    """Put a bundle, with the decision, among the models, and into use when it was promoted; whole or not at all.

    Older models beyond `KEPT` are removed. Raises nas.atomic.DiskError when the disk does not take it.
    """
    models = root / FOLDER / MODELS
    target = models / decision.sha256[:_DIGITS]
    with atomic.explained(target, "written", "what was released before is still in use"):
        models.mkdir(parents=True, exist_ok=True)
        for left in models.glob(".fresh-*"):  # by a process that was killed
            shutil.rmtree(left)
        if not (target / "model.onnx").is_file():
            fresh = models / f".fresh-{target.name}"
            shutil.copytree(bundle, fresh, ignore=shutil.ignore_patterns(".gitignore"))  # follows links into DVC's cache
            atomic.write_json(fresh / DECISION, asdict(decision))
            atomic.sync_tree(fresh)
            fresh.rename(target)
        atomic.write_json(target / DECISION, asdict(decision))
        if decision.promoted:
            _use(root, target)
        _tidy(root)


def note_last(root: Path, decision: Decision) -> None:
    """Keep the last decision where `read_last` finds it."""
    atomic.make_folder(root / WORK)
    atomic.write_json(root / WORK / _LAST, asdict(decision))


def read_last(root: Path) -> Decision:
    """The last decision. Raises FileNotFoundError before the first."""
    return Decision(**json.loads((root / WORK / _LAST).read_text()))


def is_decided(root: Path) -> bool:
    """Whether the last decision was about the model that lies in results/export."""
    try:
        exported: dict[str, Any] = json.loads((root / "results" / "export" / "manifest.json").read_text())
        return bool(read_last(root).sha256 == exported["sha256"])
    except FileNotFoundError:
        return False


def _use(root: Path, target: Path) -> None:
    link = root / FOLDER / CURRENT
    aside = link.with_name(f".{CURRENT}")
    aside.unlink(missing_ok=True)
    with finish_first():
        aside.symlink_to(Path(MODELS) / target.name, target_is_directory=True)
        os.replace(aside, link)
        atomic.sync_folder(link.parent)


def _tidy(root: Path) -> None:
    for decision in candidates(root)[KEPT:]:
        shutil.rmtree(root / FOLDER / MODELS / decision.sha256[:_DIGITS])
