"""The user's data as dependencies of stages: dvc.yaml names what a source or an evaluator reads, so DVC sees it change and can push it.

Which files those are depends on params.yaml, and a template in dvc.yaml cannot say "none" or "two". So the list is written out,
and `meta.watched` of the stage remembers which of its dependencies are data, to take them away when the source changes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from flows import lineage
from nas import atomic


def watch(root: Path, paths: Sequence[str], name: str = "prepare") -> bool:
    """Make `paths` the data among the dependencies of stage `name` in `root`/dvc.yaml; returns whether the file had to change.

    Comments and the order of the file stay. Raises FileNotFoundError without a dvc.yaml, ValueError when it is damaged,
    KeyError without the stage when there are paths.
    """
    yaml = YAML()
    yaml.width = 4096  # or long lines would be folded that nobody edited
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = root / "dvc.yaml"
    lineage.load(path)  # which says in a sentence what is wrong with it
    document = yaml.load(path.read_text())
    if name not in document["stages"] and not paths:
        return False
    stage = document["stages"][name]
    meta = stage.setdefault("meta", {})
    before = list(meta.get("watched", []))
    code = [dependency for dependency in stage["deps"] if dependency not in before]
    wanted = CommentedSeq(name for name in dict.fromkeys(paths) if name not in code)
    if before == wanted:
        return False
    for index in reversed(range(len(stage["deps"]))):
        if stage["deps"][index] in before:
            del stage["deps"][index]
    stage["deps"].extend(wanted)
    wanted.fa.set_flow_style()
    meta["watched"] = wanted
    atomic.write(path, lambda file: yaml.dump(document, file))
    return True


def paths(root: Path) -> list[str]:
    """The data that the stages of `root`/dvc.yaml read. Raises FileNotFoundError without a dvc.yaml."""
    stages = lineage.load(root / "dvc.yaml").get("stages") or {}
    return list(dict.fromkeys(path for stage in stages.values() for path in stage.get("meta", {}).get("watched", [])))


def tangled(root: Path, paths: Sequence[str]) -> list[str]:
    """One sentence per path that DVC cannot watch, because it holds the project or its results, or lies among the results."""
    project = root.resolve()
    results = project / "results"
    sentences = []
    for path in paths:
        place = (root / path).resolve()
        if project.is_relative_to(place) or place.is_relative_to(results):
            where = "lies among the results" if place.is_relative_to(results) else "holds the project itself, with its results"
            sentences.append(f"reads {path!r}, which {where}: move the data into a folder of their own, such as data/, and name that")
    return sentences


def unwatched(record: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """The `paths` that are not among the dependencies of a record of `lineage.read`: DVC would not notice when they change."""
    return [path for path in paths if path not in record["deps"]]
